"""The progress line of a running study."""

from __future__ import annotations

import io

import pytest
from helpers.studies.synthetic_results import result_row

from study.console import RECENT, rate
from study.directory.standing import Standing
from study.driver import study_progress
from study.driver.study_progress import StudyProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock in seconds that a test sets; the display's own starts with it."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def ended(progress: StudyProgress, standing: Standing, number: int, **changes: object) -> None:
    standing.add(result_row(number, **changes))
    progress.trial_ended()


def test_it_has_pace_best_robust_hypervolume_and_the_first_failure(clock) -> None:
    standing = Standing()
    standing.add(result_row(0, val_clean_accuracy=0.9, val_robust_accuracy=0.4))
    progress = StudyProgress(12, standing)
    assert progress.line().startswith("1/12 trials · 0 running · 0s elapsed · robust 0.400 at clean ≥ 0.85")
    for number in (1, 2):
        clock[0] += 15
        ended(progress, standing, number, val_clean_accuracy=0.95, val_robust_accuracy=0.5)
    ended(progress, standing, 3, status="failed", reason="diverged", val_clean_accuracy=None, val_robust_accuracy=None)
    progress.tick(running=2)
    # the row from before the driver started is no part of its pace
    assert progress.line() == (
        "4/12 trials · 2 running · 6.0 a minute · 30s elapsed · about 1m20s left · robust 0.500 at clean ≥ 0.90 · "
        "hypervolume 0.475 · front 2 · 1 failed, first: diverged"
    )


def test_on_a_terminal_of_80_columns_nothing_is_cut(clock, monkeypatch) -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, soft_wrap=True)
    monkeypatch.setattr("study.console.notes", lambda: console)
    monkeypatch.setattr(study_progress, "notes", lambda: console)
    standing = Standing()
    progress = StudyProgress(5000, standing)
    with progress:
        for number in range(3):
            clock[0] += 400
            ended(progress, standing, number, val_clean_accuracy=0.95, val_robust_accuracy=0.5)
        progress.tick(running=16)
        console.file.truncate(0)
        progress._bar.refresh()
        text = " ".join(console.file.getvalue().replace("\x00", "").split())
    for part in progress.line().split(" · "):
        assert part in text, text


@pytest.mark.parametrize(
    ("times", "now", "text"),
    [([0, 2], 4, "15 a minute"), ([0, 30, 60], 60, "2.0 a minute"), ([0, 3600], 7200, "0.5 an hour")],
)
def test_a_rate_is_by_the_minute_or_for_slow_things_by_the_hour(times, now, text) -> None:
    assert rate(times, now=now) == text


def test_a_rate_is_that_of_the_last_trials(clock) -> None:
    standing = Standing()
    progress = StudyProgress(100, standing)
    clock[0] += 600  # slow to start
    for number in range(RECENT + 1):
        clock[0] += 3
        ended(progress, standing, number)
    assert "20 a minute" in progress.line()
