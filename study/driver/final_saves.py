"""The end of a run that is asked to stop: its workers save their trials, and the driver waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from study.driver.signals import GRACE_SECONDS, StopSignals
from trainables.training.save_requests import ask_to_save, forget, saved_since_asked

_POLL_SECONDS = 1.0
_MAX_NAMED = 5


class FinalSaves:
    """Asks the workers to save once a stop is requested, and keeps track of the trials that have not saved yet.

    Args:
        interrupts: Tells whether a stop is requested.
        print_line: Prints a line for the user.
    """

    def __init__(self, interrupts: StopSignals, *, print_line: Callable[[str], None]) -> None:
        self._interrupts = interrupts
        self._print_line = print_line
        self._saved: set[str] = set()
        self._asked = False
        self._polled = 0.0

    def reported(self, tune_id: str, /) -> None:
        """Note that a trial reported an epoch; it is saved before it reports."""
        if self._interrupts.requested:
            self._saved.add(tune_id)

    def are_done(self, running: Collection[tuple[str, str]], /) -> bool:
        """Return whether the run can end now: a stop is requested, and its trials are saved or the wait is over.

        Args:
            running: The running trials: Tune's id and the study's id of each.
        """
        if not self._interrupts.requested:
            return False
        now = time.monotonic()
        if not self._asked:
            self._asked = True
            ask_to_save()
            if running:
                self._print_line(f"waiting up to {GRACE_SECONDS:.0f} s for trials to save: {_named(running)}")
        elif now - self._polled > _POLL_SECONDS:
            self._polled = now
            self._saved |= saved_since_asked()
        unsaved = [ids for ids in running if ids[0] not in self._saved]
        if unsaved and not self._interrupts.grace_is_over:
            return False
        if unsaved:
            self._print_line(f"not saved in time, so these will resume from earlier checkpoints: {_named(unsaved)}")
        return True

    def close(self) -> None:
        """Remove the request from the cluster, which others may use."""
        if self._asked:
            forget()


def _named(trials: Collection[tuple[str, str]]) -> str:
    names = sorted(name for _, name in trials)
    return ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else "")
