"""A headless browser: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 120_000


@contextmanager
def page(*, width: int = 1500, height: int = 900) -> Iterator[Any]:
    """Open an empty page whose operations time out after two minutes; skip where it or its driver is missing."""
    sync_playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`").sync_playwright
    with sync_playwright() as driver:
        # Chromium refuses its sandbox as root
        browser = driver.chromium.launch(executable_path=_program(), args=["--no-sandbox", "--disable-gpu"])
        try:
            opened = browser.new_page(viewport={"width": width, "height": height})
            opened.set_default_timeout(WAIT_MS)
            yield opened
        finally:
            browser.close()


def shown_after(file: Path) -> tuple[float, float]:
    """Return the seconds from a browser's request for a page of charts until the frame with the first two is shown.

    Also return the CPU seconds of its process until then, which other work on the machine affects less; inf without
    /proc.

    The browser runs without a driver, as Playwright attaches an inspector, with which it parses large scripts twice.
    The page navigates to another address when it is shown, and the server times both requests.
    """
    requests: dict[str, float] = {}
    shown = threading.Event()
    content = file.read_bytes().replace(b"</body>", _NAVIGATE + b"</body>")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.setdefault(self.path, time.perf_counter())
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content if self.path == "/" else b"")
            if self.path == "/shown":
                shown.set()

        def log_message(self, *_: object) -> None:
            pass

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1500,900", "--no-first-run"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        command = [_program(), *options, f"--user-data-dir={profile}", address]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert shown.wait(WAIT_MS / 1000), "the page never showed a chart"
            cpu_seconds = _renderer_seconds(profile)
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()
    return requests["/shown"] - requests["/"], cpu_seconds or float("inf")


def _program() -> str:
    """Return the system's Chromium; skip the test where it has none."""
    return CHROMIUM or pytest.skip("no chromium is installed")


def _renderer_seconds(profile: str) -> float:
    """Return the CPU seconds of the busiest renderer process of the browser with this profile."""
    most = 0.0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode()
            times = (entry / "stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            continue  # it has ended
        if "--type=renderer" in command and profile in command:
            most = max(most, sum(map(int, times)) / os.sysconf("SC_CLK_TCK"))
    return most


_NAVIGATE = b"""<script>
(function look() {
  if (!['flat', 'robust'].every(name => drawn.has(name))) { requestAnimationFrame(look); return; }
  requestAnimationFrame(() => requestAnimationFrame(() => { location = '/shown'; }));
})();
</script>"""
