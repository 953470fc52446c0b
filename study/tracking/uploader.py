"""The thread that sends the spool to MLflow: in sequence, with retries and back-off, until all of it has arrived."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from study.errors import UsageError, short
from study.tracking.spool import Spool

if TYPE_CHECKING:
    from study.tracking.store import Store

logger = logging.getLogger(__name__)

BATCH = 500
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
GIVE_UP_SECONDS = 10.0
"""Longest wait at the end of a study for a store that does not answer."""


class Uploader:
    """Sends a spool's events to a store, from a thread of its own.

    Args:
        spool: What to send.
        open_store: Connects to the store; called again after every failure.

    Attributes:
        store: The store; None until it has answered.
        error: Why the last attempt failed; None after a success.
        refused: Events that the store refused, and why.
    """

    def __init__(self, spool: Spool, /, *, open_store: Callable[[], Store]) -> None:
        self._spool = spool
        self._open_store = open_store
        self.store: Store | None = None
        self.error: str | None = None
        self.refused: list[str] = []
        self._connected = False
        self._limit = BATCH
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._finish_called = self._deadline = 0.0
        self._afterwards: Callable[[Store], None] | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def start(self) -> None:
        """Start sending."""
        self._thread.start()

    def wake(self) -> None:
        """Signal that there is something to send."""
        self._wake.set()

    def finish(self, *, timeout: float, afterwards: Callable[[Store], None]) -> bool:
        """Send what is left, then call `afterwards` in the same thread.

        Args:
            timeout: Longest wait in seconds; a store that does not answer gets `GIVE_UP_SECONDS` of it.
            afterwards: Called only if everything was sent.

        Returns:
            Whether everything was sent and `afterwards` has returned.
        """
        self._afterwards = afterwards
        self._finish_called = time.monotonic()
        self._deadline = self._finish_called + timeout
        self._ending.set()
        self._wake.set()
        self._thread.join(timeout + 1)
        return not self._thread.is_alive() and self.error is None

    def _work(self) -> None:
        wait = FIRST_WAIT
        failing_since: float | None = None
        while True:
            try:
                ending = self._ending.is_set()
                while self._send():
                    pass
                if ending and self.store is not None and self._afterwards is not None:
                    self._afterwards(self.store)
                self.error, failing_since, wait = None, None, FIRST_WAIT
                if ending:
                    return
                self._wake.wait()
                self._wake.clear()
            except Exception as error:  # a failure of tracking must not fail the study
                logger.debug("tracking failed", exc_info=True)
                self.error = str(error) if isinstance(error, UsageError) else short(error)
                failing_since = failing_since or time.monotonic()
                if self._ending.is_set():
                    now = time.monotonic()
                    if now > self._deadline or now - max(failing_since, self._finish_called) > GIVE_UP_SECONDS:
                        return
                    time.sleep(FIRST_WAIT)
                else:
                    self._ending.wait(wait)
                    wait = min(2 * wait, LONGEST_WAIT)

    def _send(self) -> bool:
        """Send the next events; return whether there may be more."""
        if self.store is None or not self._connected:
            self.store = self._open_store()
            self._connected = True
        events, position = self._spool.pending(limit=self._limit)
        if not events:
            return False
        try:
            self.store.apply(events)
        except Exception:
            # retried from one event up, so that each event that arrives need not be sent again;
            # what arrived of this batch is recognised
            self._connected, self._limit = False, 1
            raise
        finally:
            self.refused += self.store.refused
            self.store.refused.clear()
        self._spool.uploaded(position)
        self._limit = min(2 * self._limit, BATCH)
        return True
