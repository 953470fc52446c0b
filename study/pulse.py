"""What a driver does every few seconds: it shows that it is alive, and looks how many trials the cluster holds now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.search import ConcurrencyLimiter

from study.drivers import BEAT_SECONDS


class Pulse(tune.Callback):
    """Beats, and lets as many trials run as there is room for: nodes come late, go, or are added by an autoscaler.

    Args:
        limiter: Holds the trials that run at once, those that wait for room included.
        beat: Shows that the driver is alive.
        room: Returns how many trials the cluster holds now; the limiter stays as it is when None.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, *, beat: Callable[[], None], room: Callable[[], int] | None = None
    ) -> None:
        self._limiter = limiter
        self._beat = beat
        self._room = room
        self._last = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at the clock, and do what is due."""
        if time.monotonic() - self._last <= BEAT_SECONDS:
            return
        self._last = time.monotonic()
        self._beat()
        if self._room is not None:
            # one trial that waits asks an autoscaler for a node when all are gone
            self._limiter.max_concurrent = max(1, self._room())

    def __getstate__(self) -> dict[str, Any]:
        """Keep everything out of Tune's own files."""
        return {}
