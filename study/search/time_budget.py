"""How long a study has searched, kept in its Optuna storage across drivers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


SPENT = "seconds_spent"

SAVE_EVERY = 30.0
"""Seconds between two writes, unless a trial starts or ends: what a killed driver may forget at most."""


class TimeBudget:
    """Counts the time in which a study's drivers searched.

    That is the wall time between a driver's first proposal and its last event (a trial proposed, reporting or
    ended), summed over drivers: the time between an interruption and `resume` is not in it, nor is Ray's start.

    Args:
        study: The study's Optuna study, which keeps the sum.
        limit: Seconds that may be spent; None for no limit, and then nothing is kept.
        clock: Monotonic seconds.
    """

    def __init__(
        self, study: optuna.Study, /, *, limit: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._study = study
        self._limit = limit
        self._clock = clock
        self._before = spent(study)
        self._started: float | None = None
        self._saved = -SAVE_EVERY

    @property
    def seconds(self) -> float:
        """Return what was spent so far."""
        return self._before + (0.0 if self._started is None else self._clock() - self._started)

    @property
    def is_over(self) -> bool:
        """Return whether no new trial may start."""
        return self._limit is not None and self.seconds >= self._limit

    def note(self, *, at_once: bool) -> None:
        """Note that the search is alive; write the sum down now, or when it was not for a while."""
        if self._limit is None:
            return
        now = self._clock()
        self._started = now if self._started is None else self._started
        if at_once or now - self._saved >= SAVE_EVERY:
            self._study.set_user_attr(SPENT, round(self.seconds, 3))
            self._saved = now


def spent(study: optuna.Study, /) -> float:
    """Return how many seconds a study's drivers have searched, 0 where none were counted."""
    return float(study.user_attrs.get(SPENT, 0.0))
