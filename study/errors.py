"""Errors in the user's input, which end a command with exit code 2."""

from __future__ import annotations


class UsageError(Exception):
    """Invalid input, found before anything was started; `problems` has one line per mistake."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
