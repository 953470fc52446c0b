"""The result of a measurement: arrays over images, and their summary for result rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SUMMARIES = (
    "clean_accuracy",
    "robust_accuracy",
    "loss",
    "lipschitz_mean",
    "lipschitz_median",
    "lipschitz_p95",
    "lipschitz_max",
    "lipschitz_scale_free_mean",
)
"""Keys of `Measures.summary`; result columns prefix each with the split's name."""


@dataclass(frozen=True)
class Measures:
    """Measurements on n images, the first m of them also for Lipschitzness.

    Attributes:
        clean_correct: (n,) bool.
        robust_correct: (n,) bool, correct on the image and under the attack.
        loss: Cross-entropy on the image in nats, (n,) float64.
        lipschitz: (m,) float64; NaN where the logits are NaN.
        lipschitz_scale_free: (m,) float64, or None if it is undefined.
        flags: Names from `trainables.evaluation.flags.FLAGS`, sorted.
        seconds_attack: Wall time of the attack and its checks.
        seconds_lipschitz: Wall time of Lipschitzness and its checks.
        certified_correct: Proved correct at every point of the ball, (n,) bool; None where the network cannot be
            bounded or that was not asked for.
        seconds_certify: Wall time of the certificates.
    """

    clean_correct: NDArray[np.bool_]
    robust_correct: NDArray[np.bool_]
    loss: NDArray[np.float64]
    lipschitz: NDArray[np.float64]
    lipschitz_scale_free: NDArray[np.float64] | None
    flags: tuple[str, ...]
    seconds_attack: float
    seconds_lipschitz: float
    certified_correct: NDArray[np.bool_] | None = None
    seconds_certify: float = 0.0

    @property
    def certified_accuracy(self) -> float | None:
        """The share that is proved correct; None where nothing is, as a vacuous bound says nothing of the network."""
        proved = self.certified_correct
        return float(proved.mean()) if proved is not None and proved.any() else None

    def summary(self) -> dict[str, float | None]:
        """Return a value for each of `SUMMARIES`; None if it is undefined or not finite."""
        values = {
            "clean_accuracy": self.clean_correct.mean(),
            "robust_accuracy": self.robust_correct.mean(),
            "loss": self.loss.mean(),
        }
        if len(self.lipschitz):
            values |= {
                "lipschitz_mean": self.lipschitz.mean(),
                "lipschitz_median": np.median(self.lipschitz),
                "lipschitz_p95": np.quantile(self.lipschitz, 0.95),
                "lipschitz_max": self.lipschitz.max(),
            }
        if self.lipschitz_scale_free is not None and len(self.lipschitz_scale_free):
            values["lipschitz_scale_free_mean"] = self.lipschitz_scale_free.mean()
        return {name: _finite(values.get(name)) for name in SUMMARIES}

    def examples(self, index: NDArray[np.int64], /) -> dict[str, NDArray[Any]]:
        """Return one entry per image as columns; Lipschitz values that were not measured are NaN.

        Args:
            index: Position of each image in its source, (n,) or longer, of which the first n are used.
        """
        index = index[: len(self.clean_correct)]
        return {
            "index": index,
            "clean_correct": self.clean_correct,
            "robust_correct": self.robust_correct,
            "lipschitz": _padded(self.lipschitz, len(index)),
            "lipschitz_scale_free": _padded(self.lipschitz_scale_free, len(index)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain tensors, numbers and strings, for a checkpoint."""
        tree = dict(vars(self)) | {"flags": list(self.flags)}
        return {k: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for k, v in tree.items()}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], /) -> Measures:
        """Return the measures that `to_dict` was called on."""
        plain = {k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in tree.items()}
        return cls(**(plain | {"flags": tuple(plain["flags"])}))


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _padded(values: NDArray[np.float64] | None, length: int) -> NDArray[np.float64]:
    padded = np.full(length, np.nan)
    if values is not None:
        padded[: len(values)] = values
    return padded
