"""The fault table: what each fault test saw, printed when the tests are over."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

TABLE = pytest.StashKey[list[tuple[str, str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, str, str], None]:
    """Take a line of the table: the fault, what the user saw, what became of the trials."""

    def take(fault: str, seen: str, outcome: str) -> None:
        request.config.stash[TABLE].append((fault, seen, outcome))

    return take


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.stash[TABLE]:
        return
    terminalreporter.section("what became of a study")
    for fault, seen, outcome in config.stash[TABLE]:
        terminalreporter.write_line(fault, bold=True)
        for head, text in (("seen", seen), ("then", outcome)):
            body = textwrap.fill(text, 112, initial_indent=f"  {head}  ", subsequent_indent=" " * 8)
            terminalreporter.write_line(body)
