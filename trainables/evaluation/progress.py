"""Progress of long measurements as plain calls, so that callers decide how to display it."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Receives a stage's name, the number of its images that are done, and their total."""


def stage(report: Report | None, name: str, total: int, /) -> Callable[[int], None] | None:
    """Report the start of a stage and return a function that reports how many of its images are done."""
    if report is None:
        return None

    def advance(done: int) -> None:
        report(name, done, total)

    advance(0)
    return advance
