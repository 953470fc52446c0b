"""The fault table: the result of each fault test, printed after the tests."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

TABLE = pytest.StashKey[list[tuple[str, str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, str, str], None]:
    """Add a line to the table: the fault, what the user sees, and the result for the trials."""

    def add(fault: str, seen: str, outcome: str) -> None:
        request.config.stash[TABLE].append((fault, seen, outcome))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.stash[TABLE]:
        return
    terminalreporter.section("faults and their effect on a study")
    for fault, seen, outcome in config.stash[TABLE]:
        terminalreporter.write_line(fault, bold=True)
        for head, text in (("seen", seen), ("then", outcome)):
            body = textwrap.fill(text, 112, initial_indent=f"  {head}  ", subsequent_indent=" " * 8)
            terminalreporter.write_line(body)
