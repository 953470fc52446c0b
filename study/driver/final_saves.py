"""The last thing a run does when it is to stop: its workers save their trials, and that is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from study.driver.signals import GRACE_SECONDS, StopSignals
from trainables.training.save_requests import ask_to_save, forget, saved_since_asked

_LOOK_SECONDS = 1.0
_NAMED = 5


class FinalSaves:
    """Asks the workers to save once a stop is requested, and knows which trials still have to.

    Args:
        interrupts: What asks for the stop.
        say: Prints a line for the user.
    """

    def __init__(self, interrupts: StopSignals, *, say: Callable[[str], None]) -> None:
        self._interrupts = interrupts
        self._say = say
        self._saved: set[str] = set()
        self._asked = False
        self._looked = 0.0

    def reported(self, tune_id: str, /) -> None:
        """Note that a trial reported an epoch, which it saves first."""
        if self._interrupts.requested:
            self._saved.add(tune_id)

    def are_done(self, running: Collection[tuple[str, str]], /) -> bool:
        """Return whether the run can end now: a stop is requested, and its trials are saved or had their time.

        Args:
            running: The trials that run now: the id Tune knows each by, and its own.
        """
        if not self._interrupts.requested:
            return False
        now = time.monotonic()
        if not self._asked:
            self._asked = True
            ask_to_save()
            if running:
                self._say(f"waiting up to {GRACE_SECONDS:.0f} s for trials to save: {_named(running)}")
        elif now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._saved |= saved_since_asked()
        late = [one for one in running if one[0] not in self._saved]
        if late and not self._interrupts.patience_over:
            return False
        if late:
            self._say(f"not saved in time, so they go on from checkpoints before: {_named(late)}")
        return True

    def close(self) -> None:
        """Leave nothing in a cluster that others use."""
        if self._asked:
            forget()


def _named(trials: Collection[tuple[str, str]]) -> str:
    names = sorted(name for _, name in trials)
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
