"""Measuring a network: clean and robust accuracy, local Lipschitzness, and flags on suspicious measurements.

Everything runs in fp32 and eval mode on given images and depends on no global state.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks import ATTACKS
from trainables.attacks.base import BATCH_SIZE, input_gradient, is_correct, run_attack
from trainables.lipschitz import local_lipschitz
from trainables.losses import cross_entropy, cross_entropy_against
from trainables.modes import mode
from trainables.seeding import derive
from trainables.threat import ThreatModel

FLAGS = {
    "zero_gradient": "more than 1% of the attacked images have an exactly zero input gradient of cross-entropy",
    "nan_logits": "some logits are NaN; those images count as misclassified",
    "scale_free_undefined": "the mean margin is 0, so scale-free Lipschitzness does not exist",
}
"""What each flag says about a measurement that carries it."""

ZERO_GRADIENT_SHARE = 0.01

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
"""What `Measures.summary` holds; result columns put the split's name before each."""


@dataclass(frozen=True)
class Measures:
    """What was measured on n images, the first m of them for Lipschitzness too.

    Attributes:
        clean_correct: (n,) bool.
        robust_correct: (n,) bool, correct on the image and under the attack.
        loss: Cross-entropy on the image in nats, (n,) float64.
        lipschitz: (m,) float64; NaN where the logits are.
        lipschitz_scale_free: (m,) float64, or None where it is undefined.
        flags: Names from `FLAGS`, sorted.
        seconds_attack: Spent attacking.
        seconds_lipschitz: Spent on Lipschitzness.
    """

    clean_correct: NDArray[np.bool_]
    robust_correct: NDArray[np.bool_]
    loss: NDArray[np.float64]
    lipschitz: NDArray[np.float64]
    lipschitz_scale_free: NDArray[np.float64] | None
    flags: tuple[str, ...]
    seconds_attack: float
    seconds_lipschitz: float

    def summary(self) -> dict[str, float | None]:
        """Return the `SUMMARIES`; None where a value is undefined or not finite."""
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
        """Return one row per image as columns; Lipschitz values are NaN where none was measured.

        Args:
            index: Position of each image in its source, (n,).
        """
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
        """Return what `to_dict` was called on."""
        plain = {k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in tree.items()}
        return cls(**(plain | {"flags": tuple(plain["flags"])}))


def clean_measures(model: nn.Module, images: Tensor, labels: Tensor, /) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy (nats; NaN where any logit is) in eval mode."""
    correct, loss = [], []
    with mode(model), torch.no_grad():
        for begin in range(0, len(images), BATCH_SIZE):
            x, y = images[begin : begin + BATCH_SIZE], labels[begin : begin + BATCH_SIZE]
            logits = model(x)
            correct.append(is_correct(logits, y))
            loss.append(cross_entropy(logits, y).double())
    return float(torch.cat(correct).double().mean()), float(torch.cat(loss).mean())


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    threat: ThreatModel,
    steps: int,
    restarts: int,
    lipschitz_steps: int,
    lipschitz_restarts: int,
    lipschitz_examples: int,
    seed: int,
    attack: str = "pgd",
) -> Measures:
    """Measure a network on the given images.

    Args:
        model: Maps (n, c, h, w) in [0, 1] to logits (n, K); its modes and buffers are left as they were.
        images: (n, c, h, w) float32 in [0, 1], n at least 1.
        labels: (n,) int64.
        threat: Ball and box. At radius 0 robust accuracy is clean accuracy, and Lipschitzness is not measured.
        steps: Attack steps.
        restarts: Attack restarts.
        lipschitz_steps: Ascent steps of the Lipschitz estimate.
        lipschitz_restarts: Its restarts.
        lipschitz_examples: It is measured on the first so many images.
        seed: Result depends on it, on the arguments, and on nothing else.
        attack: Registered attack or `package.module:object`.
    """
    clean, loss, seen = _clean_pass(model, images, labels)
    begun = time.perf_counter()
    chosen, draws = ATTACKS.load(attack), derive(seed, "attack")
    robust, _ = run_attack(chosen, model, images, labels, threat=threat, steps=steps, restarts=restarts, seed=draws)
    robust_correct = (robust & clean).cpu().numpy()
    attacked = time.perf_counter()
    first = lipschitz_examples if threat.epsilon > 0 else 0
    raw, scale_free = _lipschitz(
        model,
        images[:first],
        labels[:first],
        threat=threat,
        steps=lipschitz_steps,
        restarts=lipschitz_restarts,
        seed=derive(seed, "lipschitz"),
    )
    seen["scale_free_undefined"] = scale_free is None and len(raw) > 0
    return Measures(
        clean_correct=clean.cpu().numpy(),
        robust_correct=robust_correct,
        loss=loss.double().cpu().numpy(),
        lipschitz=raw,
        lipschitz_scale_free=scale_free,
        flags=tuple(sorted(name for name, is_seen in seen.items() if is_seen)),
        seconds_attack=attacked - begun,
        seconds_lipschitz=time.perf_counter() - attacked,
    )


def _lipschitz(
    model: nn.Module, images: Tensor, labels: Tensor, *, threat: ThreatModel, steps: int, restarts: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return the raw values (m,) and the scale-free ones, or None where those do not exist; m may be 0."""
    if len(images) == 0:
        return np.empty(0), None
    found = local_lipschitz(model, images, labels, threat=threat, steps=steps, restarts=restarts, seed=seed)
    return found.raw.cpu().numpy(), None if found.scale_free is None else found.scale_free.cpu().numpy()


def _clean_pass(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, bool]]:
    """Return correctness (n,), loss (n,), and which flags the clean logits and gradients raise."""
    correct, loss, zero, nan = [], [], [], []
    with mode(model):
        for begin in range(0, len(images), BATCH_SIZE):
            x, y = images[begin : begin + BATCH_SIZE], labels[begin : begin + BATCH_SIZE]
            gradient, values, logits = input_gradient(model, x, cross_entropy_against(y))
            correct.append(is_correct(logits, y))
            loss.append(values)
            zero.append((gradient == 0).flatten(1).all(1))
            nan.append(logits.isnan().any())
    clean = torch.cat(correct)
    attacked = clean.sum()
    stuck = (torch.cat(zero) & clean).sum() > ZERO_GRADIENT_SHARE * attacked
    return clean, torch.cat(loss), {"zero_gradient": bool(stuck), "nan_logits": bool(torch.stack(nan).any())}


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _padded(values: NDArray[np.float64] | None, length: int) -> NDArray[np.float64]:
    padded = np.full(length, np.nan)
    if values is not None:
        padded[: len(values)] = values
    return padded
