"""A study's time budget: the time used so far is kept in its Optuna storage across drivers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


SPENT = "seconds_spent"

SAVE_EVERY = 30.0
"""Seconds between two writes while no trial starts or ends, and so the most time that a killed driver leaves out."""


class TimeBudget:
    """Counts the time that a study's drivers have searched.

    This is the wall time between a driver's first proposal and its last event (a trial proposed, reporting or ended),
    summed over drivers. Neither the time between an interruption and `resume` nor Ray's start is included.

    Args:
        study: The study's Optuna study, which stores the sum.
        limit: Longest time in seconds; None for no limit, in which case nothing is stored.
    """

    def __init__(self, study: optuna.Study, /, *, limit: float | None) -> None:
        self._study = study
        self._limit = limit
        self._before = spent(study)
        self._started: float | None = None
        self._saved = -SAVE_EVERY

    @property
    def seconds(self) -> float:
        """Return the time used so far."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    @property
    def is_over(self) -> bool:
        """Return whether the budget is used up: no new trial may start."""
        return self._limit is not None and self.seconds >= self._limit

    def update(self, *, save: bool) -> None:
        """Add the time up to now, and store the sum if `save` is true or the last write is long ago."""
        if self._limit is None:
            return
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        if save or now - self._saved >= SAVE_EVERY:
            self._study.set_user_attr(SPENT, round(self.seconds, 3))
            self._saved = now


def spent(study: optuna.Study, /) -> float:
    """Return how many seconds a study's drivers have searched, 0 where none were counted."""
    return float(study.user_attrs.get(SPENT, 0.0))
