"""Where words go: results to stdout, everything else to stderr; wide enough for tables when nobody watches."""

from __future__ import annotations

import sys

from rich.console import Console

_PIPE_WIDTH = 140


def results() -> Console:
    """Return the console for what a script would read."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, soft_wrap=True, highlight=False, markup=False)


def notes() -> Console:
    """Return the console for progress and remarks."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
