"""Synthetic studies with known true accuracies, and the calibration of intervals and probabilities on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from analysis.fronts.front import non_dominated
from analysis.statistics.accuracy_model import membership, true_accuracies
from analysis.statistics.front_posterior import drawn_hypervolumes
from analysis.statistics.intervals import summary

Study: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""True (clean, robust) accuracies, shape (t, 2), and clean and robust outcomes, shape (t, n)."""


def with_outcomes(rng: np.random.Generator, truth: np.ndarray, *, examples: int, shared: float) -> Study:
    """Return a study with given true accuracies; `shared` correlates the difficulty of examples between trials."""
    difficulty = shared * rng.normal(size=examples) + np.sqrt(1 - shared**2) * rng.normal(size=(len(truth), examples))
    level = np.vectorize(NormalDist().inv_cdf)
    correct = [difficulty < level(accuracy)[:, None] for accuracy in truth.T]
    return truth, correct[0], correct[1]


def synthetic_study(
    rng: np.random.Generator, *, trials: int, examples: int, scatter: float, shared: float = 0.8
) -> Study:
    """Return a study whose trials lie below a curve of best trade-offs, by exponential amounts of mean `scatter`."""
    strength = rng.beta(2, 1.3, trials)
    clean = np.clip(0.97 - 0.14 * strength**2 - scatter * rng.exponential(1, trials), 0.01, 0.999)
    robust = np.clip(0.85 * clean * strength**0.6 - scatter * rng.exponential(1, trials), 0.001, clean)
    return with_outcomes(rng, np.stack([clean, robust], axis=1), examples=examples, shared=shared)


def methods_apart(rng: np.random.Generator, *, trials: int = 40, examples: int = 1000) -> Study:
    """Return a study of four methods in separate clusters, one of them not robust at all."""
    centre = np.array([[0.96, 0.01], [0.93, 0.25], [0.86, 0.48], [0.84, 0.52]])
    spread = np.array([[0.008, 0.004], [0.015, 0.05], [0.015, 0.02], [0.01, 0.01]])
    method = rng.integers(4, size=trials)
    truth = np.abs(centre[method] + spread[method] * rng.normal(size=(trials, 2)))
    return with_outcomes(rng, truth, examples=examples, shared=0.8)


def cloud(rng: np.random.Generator, *, trials: int = 30, examples: int = 1000) -> Study:
    """Return a study without a trade-off: the accuracies are positively correlated and normally distributed."""
    truth = np.array([0.8, 0.4]) + rng.normal(size=(trials, 2)) @ np.array([[0.03, 0.02], [0.0, 0.04]])
    return with_outcomes(rng, truth, examples=examples, shared=0.8)


def near_one(rng: np.random.Generator, *, trials: int = 30, examples: int = 1000) -> Study:
    """Return a study with clean accuracies of 0.985 to 0.995 and robust ones of 0.9 to 0.98."""
    strength = rng.random(trials)
    clean = 0.995 - 0.01 * strength**2 - 0.003 * rng.exponential(size=trials)
    robust = 0.9 + 0.08 * strength - 0.005 * rng.exponential(size=trials)
    return with_outcomes(rng, np.stack([clean, robust], axis=1), examples=examples, shared=0.8)


def near_zero(rng: np.random.Generator, *, trials: int = 30, examples: int = 500) -> Study:
    """Return a study with robust accuracies of 0 to 0.02."""
    truth = np.stack([0.5 + 0.05 * rng.normal(size=trials), 1e-4 + 0.02 * rng.random(trials)], axis=1)
    return with_outcomes(rng, truth, examples=examples, shared=0.8)


def replicates(rng: np.random.Generator, *, trials: int = 40, examples: int = 1000, scatter: float = 0.004) -> Study:
    """Return a study of settings run five times each, in round clusters much smaller than the noise."""
    strength = np.repeat(rng.random(-(-trials // 5)), 5)[:trials]
    truth = np.stack([0.95 - 0.1 * strength, 0.1 + 0.4 * strength], axis=1) + scatter * rng.normal(size=(trials, 2))
    return with_outcomes(rng, truth, examples=examples, shared=0.8)


def hidden_trade_off(rng: np.random.Generator, *, trials: int = 30, examples: int = 360) -> Study:
    """Return a study with clean accuracies above 0.99 that fall by less than one image as robust accuracy rises."""
    strength = rng.random(trials)
    clean = 0.9992 - 0.004 * strength**2 - 0.0012 * rng.exponential(size=trials)
    robust = 0.95 + 0.045 * strength - 0.005 * rng.exponential(size=trials)
    return with_outcomes(rng, np.stack([clean, robust], axis=1), examples=examples, shared=0.8)


def two_groups(rng: np.random.Generator, *, trials: int = 36, examples: int = 500) -> Study:
    """Return a study of robust and natural methods that are close to each other in clean accuracy."""
    robust = 2 * trials // 3
    base = np.array([[0.955, 0.885]] * robust + [[0.952, 0.7]] * (trials - robust))
    spread = np.array([[0.006, 0.02]] * robust + [[0.006, 0.08]] * (trials - robust))
    truth = np.clip(base - spread * rng.exponential(size=base.shape), 0.01, 1)
    return with_outcomes(rng, truth, examples=examples, shared=0.8)


def with_collapsed(rng: np.random.Generator, make: Callable[[np.random.Generator], Study], *, collapsed: int) -> Study:
    """Return a study with more trials: two of three at chance, as collapsed networks, the others half trained."""
    sound = make(rng)
    clean = np.where(
        np.arange(collapsed) % 3 < 2, 0.1 + 0.02 * rng.normal(size=collapsed), rng.uniform(0.3, 0.75, size=collapsed)
    )
    truth = np.stack([clean, clean * rng.uniform(0.75, 1, size=collapsed)], axis=1)
    added = with_outcomes(rng, np.clip(truth, 0.01, 1), examples=sound[1].shape[1], shared=0.8)
    truth, clean, robust = (np.concatenate(pair) for pair in zip(sound, added, strict=True))
    return truth, clean, robust


def depths(rng: np.random.Generator, kind: str, *, trials: int, examples: int, bend: float = 0.0) -> Study:
    """Return a study whose trials lie below a straight trade-off by depths of one kind, near the noise.

    `kind` is uniform, exponential, normal, log-normal, none, two lines, of which half the trials lie on each, or
    clustered: normal around three points of the line. With `bend` the line is a curve.
    """
    place = np.array([0.1, 0.5, 0.9])[rng.integers(3, size=trials)] if kind == "clustered" else rng.random(trials)
    if kind == "uniform":
        depth = rng.random((trials, 2)) * [0.02, 0.04]
    elif kind == "exponential":
        depth = rng.exponential(size=(trials, 2)) * [0.01, 0.02]
    elif kind == "log-normal":
        depth = np.exp(rng.normal(size=(trials, 2))) * [0.006, 0.012]
    elif kind == "two lines":
        depth = np.outer(rng.random(trials) < 0.5, [0.02, 0.04]) + rng.normal(size=(trials, 2)) * [0.002, 0.004]
    elif kind == "none":
        place, depth = np.full(trials, 0.5), rng.normal(size=(trials, 2)) * 1e-5
    else:
        depth = rng.normal(size=(trials, 2)) * [0.006, 0.012]
    robust = 0.6 + 0.2 * place + bend * (place - 1)
    truth = np.stack([0.95 - (0.05 + bend * place / 4) * place, robust], axis=1) - depth
    return with_outcomes(rng, np.clip(truth, 0.01, 0.999), examples=examples, shared=0.8)


def few_mistakes(
    rng: np.random.Generator, *, trials: int, examples: int, top: float, low: float, high: float, normal: bool = False
) -> Study:
    """Return a study whose clean accuracies are so high that a trial gets about ten to twenty examples wrong."""
    strength = rng.random(trials)
    draw = (lambda: np.abs(rng.normal(size=trials))) if normal else (lambda: rng.exponential(size=trials))
    clean = top - 0.03 * strength**2 - 0.01 * draw()
    robust = low + (high - low) * strength - 0.1 * (high - low) * draw()
    truth = np.clip(np.stack([clean, robust], axis=1), 0.01, 0.9995)
    return with_outcomes(rng, truth, examples=examples, shared=0.8)


def any_size(rng: np.random.Generator, kind: str, *, bend: float = 0.0) -> Study:
    """Return a study with depths of one kind, of 12, 30 or 60 trials on 500, 1,000 or 5,000 examples."""
    trials, examples = rng.choice([12, 30, 60]), rng.choice([500, 1000, 5000])
    return depths(rng, kind, trials=int(trials), examples=int(examples), bend=bend)


def bootstrap_accuracies(correct: ArrayLike, /, *, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Return accuracies on resampled examples, the same resample for all trials, so that differences stay paired.

    Args:
        correct: Boolean, shape (t, n).
        resamples: Number of resamples.
        generator: Source of the draws.

    Returns:
        Shape (resamples, t).
    """
    matrix = np.asarray(correct, dtype=np.float32)
    examples = matrix.shape[1]
    shares = np.full(examples, 1 / examples)
    sizes = [min(256, resamples - start) for start in range(0, resamples, 256)]
    parts = [generator.multinomial(examples, shares, size=size).astype(np.float32) @ matrix.T for size in sizes]
    accuracies: np.ndarray = np.concatenate(parts).astype(np.float64) / examples
    return accuracies


def _curve(trials: int, examples: int, scatter: float, shared: float) -> Callable[[np.random.Generator], Study]:
    return partial(synthetic_study, trials=trials, examples=examples, scatter=scatter, shared=shared)


DESIGNS: dict[str, Callable[[np.random.Generator], Study]] = {
    "20 x 1000, scatter 0.02": _curve(20, 1000, 0.02, 0.8),
    "30 x 500, scatter 0.03": _curve(30, 500, 0.03, 0.8),
    "40 x 1000, scatter 0.01": _curve(40, 1000, 0.01, 0.8),
    "40 x 1000, scatter 0.003": _curve(40, 1000, 0.003, 0.8),
    "60 x 300, scatter 0.02": _curve(60, 300, 0.02, 0.8),
    "40 x 5000, scatter 0.01": _curve(40, 5000, 0.01, 0.8),
    "30 x 1000, hard for all": _curve(30, 1000, 0.02, 0.97),
    "30 x 1000, independent": _curve(30, 1000, 0.02, 0.0),
    "10 x 1000, scatter 0.02": _curve(10, 1000, 0.02, 0.8),
    "methods apart": methods_apart,
    "no trade-off": cloud,
    "near one": near_one,
    "near zero": near_zero,
    "two groups": two_groups,
    "two groups, 9 collapsed": lambda rng: with_collapsed(rng, two_groups, collapsed=9),
    "40 x 1000, 8 collapsed": lambda rng: with_collapsed(rng, _curve(40, 1000, 0.01, 0.8), collapsed=8),
}
"""Kinds of studies. The last seven have other shapes than the rest and than the model's own coordinates."""

DEPTHS: dict[str, Callable[[np.random.Generator], Study]] = {
    f"{kind} depths": partial(any_size, kind=kind) for kind in ("uniform", "normal", "exponential", "clustered")
}
"""Kinds that differ in the distribution of depths below the front alone, each of nine sizes."""

FURTHER: dict[str, Callable[[np.random.Generator], Study]] = {
    "log-normal depths": partial(any_size, kind="log-normal"),
    "two parallel lines": partial(any_size, kind="two lines"),
    "all trials equal": partial(any_size, kind="none"),
    "a curve, normal depths": partial(any_size, kind="normal", bend=0.3),
    "36 x 300, few mistakes": partial(few_mistakes, trials=36, examples=300, top=0.985, low=0.4, high=0.75),
    "the same, normal depths": partial(
        few_mistakes, trials=36, examples=300, top=0.985, low=0.4, high=0.75, normal=True
    ),
    "48 x 500, few mistakes": partial(few_mistakes, trials=48, examples=500, top=0.975, low=0.7, high=0.9),
}
"""Kinds with other depths, and those of small validation sets that nearly all networks classify correctly."""

UNDECIDABLE = {"clusters below the noise": replicates, "a trade-off below the noise": hidden_trade_off}
"""Here a round cluster and a line along the front look the same but differ: no probability is right for both."""

HEADER = (
    f"{'design':27s} | {'error':>5s} {'noise':>5s} {'pred.':>5s} {'true':>5s} {'ratio':>5s} | "
    f"{'covers':>6s} {'spread':>6s} {'bias':>7s} measured | {'decided':>7s} {'error':>5s} {'ratio':>5s}"
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Predictions for studies of one design, and the truth.

    Args:
        predicted: Probabilities to be on the front, of all trials of all studies.
        true: Whether they are on the front.
        decided: Whether the model calls their study's front decided, of all trials of all studies.
        simulated: Whether they would be if each study's truth were one of its draws, shape (5, trials of all).
        covered: Whether the 95 % interval contains the true hypervolume, one per study.
        bias: Posterior mean of the hypervolume minus the truth.
        measured: Hypervolume of measured accuracies minus the truth.
        rank: Share of the draws of the hypervolume that lie below the truth; uniform if intervals are right.
    """

    predicted: np.ndarray
    true: np.ndarray
    decided: np.ndarray
    simulated: np.ndarray
    covered: np.ndarray
    bias: np.ndarray
    measured: np.ndarray
    rank: np.ndarray

    def error(self) -> float:
        """Return the expected calibration error of the probabilities."""
        return calibration_table(self.predicted, self.true)[0]

    def noise(self) -> float:
        """Return the mean calibration error of perfectly calibrated probabilities for the same number of studies."""
        return float(np.mean([calibration_table(self.predicted, draw)[0] for draw in self.simulated]))

    def spread(self) -> float:
        """Return the mean distance of ranks from the middle, in units of half the range: 0.5 for right intervals.

        Intervals that are too narrow give more, too wide ones less. Its standard error is 0.29 over the root of the
        number of studies, so it needs fewer studies than the share of intervals that contain the truth.
        """
        return float(np.mean(np.abs(2 * self.rank - 1)))

    def _where_decided(self) -> str:
        if not self.decided.any():
            return ""
        predicted, true = self.predicted[self.decided], self.true[self.decided]
        return f"{calibration_table(predicted, true)[0]:5.3f} {predicted.mean() / true.mean():5.3f}"

    def line(self, name: str) -> str:
        """Return a row for the table with `HEADER`."""
        return (
            f"{name:27s} | {self.error():5.3f} {self.noise():5.3f} "
            f"{self.predicted.mean():5.3f} {self.true.mean():5.3f} {self.predicted.mean() / self.true.mean():5.3f} | "
            f"{self.covered.mean():6.3f} {self.spread():6.3f} "
            f"{self.bias.mean():+7.4f} {self.measured.mean():+8.4f} | "
            f"{self.decided.mean():7.3f} {self._where_decided()}"
        )


def evaluate_design(
    make: Callable[[np.random.Generator], Study],
    /,
    *,
    generator: np.random.Generator,
    studies: int,
    draws: int = 1000,
) -> Record:
    """Generate studies, apply the model, and record its predictions and the truth."""
    predicted, true, simulated, decided, volumes = [], [], [], [], []
    for _ in range(studies):
        truth, clean, robust = make(generator)
        posterior = true_accuracies(clean, robust, generator=generator, draws=draws)
        drawn = posterior.accuracies
        decided.append(np.full(len(truth), posterior.decided))
        predicted.append(membership(drawn))
        true.append(non_dominated(truth, maximise=True))
        picked = generator.integers(draws, size=5)
        simulated.append([non_dominated(points, maximise=True) for points in drawn[picked]])
        volume = float(drawn_hypervolumes(truth[None])[0])
        drawn_volumes = drawn_hypervolumes(drawn)
        interval = summary(drawn_volumes)
        accuracies = np.stack([clean.mean(axis=1), robust.mean(axis=1)], axis=1)
        measured = float(drawn_hypervolumes(accuracies[None])[0])
        rank = (drawn_volumes < volume).mean()
        volumes.append((interval.low <= volume <= interval.high, interval.value - volume, measured - volume, rank))
    covered, bias, excess, ranks = np.array(volumes).T
    return Record(
        predicted=np.concatenate(predicted),
        true=np.concatenate(true),
        simulated=np.concatenate(simulated, axis=1),
        decided=np.concatenate(decided),
        covered=covered,
        bias=bias,
        measured=excess,
        rank=ranks,
    )


def pooled(records: list[Record], /) -> Record:
    """Return one record of several designs."""
    names = [field.name for field in fields(Record)]
    return Record(**{name: np.concatenate([getattr(record, name) for record in records], axis=-1) for name in names})


def calibration_table(probability: np.ndarray, true: np.ndarray) -> tuple[float, str]:
    """Return the expected calibration error over ten bins, and the table behind it."""
    bins = np.minimum((probability * 10).astype(int), 9)
    rows = [(b, (bins == b).sum(), probability[bins == b].mean(), true[bins == b].mean()) for b in np.unique(bins)]
    error = sum(count * abs(predicted - share) for _, count, predicted, share in rows) / len(bins)
    lines = [
        f"{b / 10:.1f}-{(b + 1) / 10:.1f}  n={count:4d}  predicted {predicted:.2f}  true {share:.2f}"
        for b, count, predicted, share in rows
    ]
    return float(error), "\n".join(lines)
