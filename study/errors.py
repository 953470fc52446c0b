"""What a user did that cannot be done: one clear line each, and exit code 2."""

from __future__ import annotations


class UsageError(Exception):
    """Bad input, found before anything was started; `problems` has one line per mistake."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
