"""A headless browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 120_000


@contextmanager
def page(*, width: int = 1500, height: int = 900) -> Iterator[Any]:
    """An empty page that waits two minutes for whatever is asked of it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # as root chromium refuses its sandbox
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            opened = browser.new_page(viewport={"width": width, "height": height})
            opened.set_default_timeout(WAIT_MS)
            yield opened
        finally:
            browser.close()


def opened_after(opened: Any, address: str, *, until: str) -> tuple[float, float]:
    """Open a page; return wall seconds until a JavaScript condition holds, and its main thread's CPU seconds by then.

    On shared cores only the second says what the page itself costs.
    """
    session = opened.context.new_cdp_session(opened)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    start = time.perf_counter()
    opened.goto(address)
    opened.wait_for_function(until)
    wall = time.perf_counter() - start
    found = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    return wall, float(found["TaskDuration"])
