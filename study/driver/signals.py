"""Signals: the first Ctrl-C or SIGTERM asks the study to stop in order, the second ends it on the spot."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE_SECONDS = 90.0
"""How long a stop waits for running trials at most; they save between two batches, or when they are measured."""


class StopSignals:
    """Turns SIGINT, SIGTERM and a closed terminal (SIGHUP) into a request to stop; a second one ends the process.

    SIGHUP never is that second one, since shell and kernel both send it; where it is ignored, as `nohup` has it,
    it stays so.

    Ending on the spot is safe at any time: files appear whole or not at all, and a resumed study
    settles the rest.

    Attributes:
        signal: What asked for the stop, None as long as nothing did.
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals, also back from a library that has put its own handlers."""
        for number in _SIGNALS:
            if (number, self._before.get(number)) != (signal.SIGHUP, signal.SIG_IGN):
                signal.signal(number, self._handle)
        # a driver that handed over to this one held them back
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    @property
    def requested(self) -> bool:
        """Whether the study is to stop."""
        return self.signal is not None

    @property
    def patience_over(self) -> bool:
        """Whether running trials have had their time."""
        return self.requested and time.monotonic() - self._asked > GRACE_SECONDS

    @property
    def exit_code(self) -> int:
        """The exit code of what a signal ended: 130 after Ctrl-C, 143 after SIGTERM; 0 when nothing asked."""
        return 0 if self.signal is None else 128 + self.signal

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _silence(self._terminals)
            if self.signal is not None:
                return
        if self.signal is not None:
            _say("stopped now; every row that was written is whole\n")
            os._exit(128 + number)
        self.signal, self._asked = number, time.monotonic()
        _say("stopping: no new trials; running ones save where they are. Once more to stop now\n")


def hold_back() -> None:
    """Keep the signals waiting until `listen` is called, also in a program that replaces this one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _silence(streams: list[int]) -> None:
    """Let what is written to a terminal that is gone go nowhere: it would raise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _say(text: str) -> None:
    # not through a console: a handler may run in the middle of another write to it
    with suppress(OSError):
        os.write(2, f"\n{text}".encode())
