"""Progress of long measurements, as plain calls: whoever runs them decides how it looks."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Gets a stage's name, how many images are done in it, and how many it has."""


def stage(report: Report | None, name: str, total: int, /) -> Callable[[int], None] | None:
    """Report that a stage begins, and return what reports how many of its images are done; None without a report."""
    if report is None:
        return None

    def at(done: int) -> None:
        report(name, done, total)

    at(0)
    return at
