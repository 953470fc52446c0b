"""Errors in the user's input, which end a command with exit code 2, and any error as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """Invalid input, found before anything was started; `problems` has one line per mistake."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Raise exceptions of some kinds in the block as `UsageError`, with the same message."""
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error


def short(error: BaseException, /) -> str:
    """Return an error as one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
