"""Signals: the first Ctrl-C or SIGTERM stops the study gracefully, the second ends the process immediately."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE_SECONDS = 90.0
"""Longest wait of a stop for running trials, which save between two batches or once their measurement is over."""


class StopSignals:
    """Turns SIGINT, SIGTERM and a closed terminal (SIGHUP) into a request to stop; a second one ends the process.

    SIGHUP never counts as the second one, since shell and kernel both send it. Where it is ignored, as under `nohup`,
    it stays ignored.

    Ending the process is safe at any time: files are written atomically, and `resume` deals with open trials.

    Attributes:
        signal: Number of the signal that requested the stop; None while none has.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._asked = 0.0
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        self.listen()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            # a handler that Ray has while it starts
            _print("stopped while Ray was starting\n")
            raise SystemExit(128 + signal.SIGTERM) from None

    def listen(self) -> None:
        """Install the handlers, also over those of a library, and unblock the signals."""
        for number in _SIGNALS:
            if (number, self._before.get(number)) != (signal.SIGHUP, signal.SIG_IGN):
                signal.signal(number, self._handle)

    @property
    def requested(self) -> bool:
        """Whether a stop is requested."""
        return self.signal is not None

    @property
    def grace_is_over(self) -> bool:
        """Whether a stop was requested more than `GRACE_SECONDS` ago."""
        return self.requested and time.monotonic() - self._asked > GRACE_SECONDS

    @property
    def exit_code(self) -> int:
        """The exit code after a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; 0 without one."""
        return 0 if self.signal is None else 128 + self.signal

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _silence(self._terminals)
            if self.signal is not None:
                return
        if self.signal is not None:
            _print("stopped immediately; all rows written so far are complete\n")
            os._exit(128 + number)
        self.signal, self._asked = number, time.monotonic()
        _print("stopping: no new trials start, running ones are saved; a second signal stops immediately\n")


def _silence(streams: list[int]) -> None:
    """Discard what is written to a closed terminal: writing to it would raise."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(null, stream)
    os.close(null)


def _print(text: str) -> None:
    # not through a console: a handler may run in the middle of another write to it
    with suppress(OSError):
        os.write(2, f"\n{text}".encode())
