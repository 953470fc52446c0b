"""What new seeds and test data say of chosen trials: the winner's curse, and apart from it the spread between seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.heldout.measurements import Row, alike, gap, like_for_like, lipschitz_on_test
from analysis.statistics.intervals import Estimate, difference, wilson_interval

KINDS = ("clean", "robust")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Accuracies of one trial's settings under new seeds, all on the same test examples.

    Args:
        seeds: How many.
        examples: Test examples.
        mean: Of the accuracies.
        sd: Their standard deviation as measured, with seeds - 1; None of one seed.
        sd_of_examples: The standard deviation that so few examples alone would give between networks that are equally
            accurate; None of one seed, or without per-example outcomes.
    """

    seeds: int
    examples: int
    mean: float
    sd: float | None
    sd_of_examples: float | None

    @property
    def sd_of_seeds(self) -> float | None:
        """The standard deviation of the true accuracies between seeds, the examples' noise taken out."""
        if self.sd is None or self.sd_of_examples is None:
            return None
        return float(np.sqrt(max(0.0, self.sd**2 - self.sd_of_examples**2)))


@dataclass(frozen=True, kw_only=True)
class ConfirmedMember:
    """One chosen trial.

    Args:
        result: Its result row.
        test: Its measurement on test that differs from validation in the split alone, None where there is none.
        curse: Validation minus test of the same checkpoint by kind, empty without a test measurement.
        spread: New seeds on test by kind, empty without them.
        failed: New seeds that failed.
        lipschitz: Mean local Lipschitz estimate of its own checkpoint on test, None where it was not taken.
        seeds_lipschitz: The same of the new seeds that have one.
    """

    result: Row
    test: Row | None
    curse: Mapping[str, Estimate]
    spread: Mapping[str, Spread]
    failed: int
    lipschitz: float | None = None
    seeds_lipschitz: tuple[float, ...] = ()


def seed_spread(correct: ArrayLike, /) -> Spread:
    """Return the spread between seeds, the part that the examples' finite number explains told apart.

    The outcomes are split as in a two-way analysis of variance without replication. What is left of a network's
    outcomes after its own mean and the examples' mean are taken out has variance s^2; between k equally accurate
    networks the measured accuracies then scatter with variance s^2 / n.

    Args:
        correct: Whether each seed's network classifies each example correctly, boolean, shape (k, n), k, n >= 1.
    """
    outcomes = np.asarray(correct, dtype=np.float64)
    seeds, examples = outcomes.shape
    accuracies = outcomes.mean(axis=1)
    if seeds < 2:
        return Spread(seeds=seeds, examples=examples, mean=float(accuracies.mean()), sd=None, sd_of_examples=None)
    left = outcomes - accuracies[:, None] - outcomes.mean(axis=0) + outcomes.mean()
    variance = float((left**2).sum()) / ((seeds - 1) * max(examples - 1, 1))
    return Spread(
        seeds=seeds,
        examples=examples,
        mean=float(accuracies.mean()),
        sd=float(accuracies.std(ddof=1)),
        sd_of_examples=float(np.sqrt(variance / examples)),
    )


def mean_curse(val: ArrayLike, test: ArrayLike, /, *, confidence: float = 0.95) -> Estimate:
    """Return validation minus test accuracy, averaged over the same checkpoints, with its interval.

    All checkpoints share the examples of either split, so the noise is that of each example's mean over checkpoints:
    Wilson's interval of each mean accuracy as of so many independent examples as have its variance, at least one
    network's and at most all networks'. Half a right and half a wrong answer of all checkpoints alike enter that
    variance, so that few errors do not pass for independent ones.

    Args:
        val: Correct on validation, boolean, shape (m, n), n >= 1.
        test: Correct on test, boolean, shape (m, n').
        confidence: Coverage aimed at, in (0, 1).

    Source: Newcombe, Statistics in Medicine 17 (1998), method 10, for the difference; Korn and Graubard, Survey
    Methodology 24 (1998), for intervals of a proportion with an effective number of examples.
    """
    found = []
    for part in (val, test):
        correct = np.asarray(part, dtype=np.float64)
        checkpoints, examples = correct.shape
        shares, weights = np.append(correct.mean(axis=0), [0.0, 1.0]), np.append(np.ones(examples), [0.5, 0.5])
        mean = np.average(shares, weights=weights)
        alike = mean * (1 - mean) / np.average((shares - mean) ** 2, weights=weights)
        effective = examples * np.clip(alike, 1, checkpoints)
        value = float(correct.mean())
        low, high = wilson_interval(value * effective, effective, confidence=confidence)
        found.append(Estimate(value=value, low=float(low), high=float(high)))
    return difference(found[0], found[1])


def confirmed(
    members: Sequence[Row],
    evaluations: Sequence[Row],
    /,
    *,
    replicas: Sequence[Row] = (),
    outcomes: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> list[ConfirmedMember]:
    """Return what is known of each member.

    Args:
        members: Result rows of chosen trials.
        evaluations: Evaluation rows of the study and of its new seeds.
        replicas: Result rows of the new seeds; `replicate_of` is a member's number.
        outcomes: By the name of a new seed's measurement, whether its network was correct on each test example, by
            kind.
    """
    found = []
    for member in members:
        test = like_for_like(member, evaluations)
        own = [row for row in replicas if row["replicate_of"] == member["number"]]
        measured = _together([alike(row, evaluations) for row in own])
        found.append(
            ConfirmedMember(
                result=member,
                test=test,
                curse={} if test is None else {kind: gap(member, test, kind) for kind in KINDS},
                spread={kind: _spread(measured, kind, outcomes or {}) for kind in KINDS} if measured else {},
                failed=sum(row["status"] == "failed" for row in own),
                lipschitz=lipschitz_on_test(member, evaluations),
                seeds_lipschitz=tuple(
                    value for row in own if (value := lipschitz_on_test(row, evaluations)) is not None
                ),
            )
        )
    return found


def as_tree(found: Sequence[ConfirmedMember], /) -> list[dict[str, Any]]:
    """Return the same as plain values, for JSON."""
    tree = []
    for one in found:
        entry: dict[str, Any] = {name: one.result[name] for name in ("trial_id", "method", "seed")}
        for kind in KINDS:
            spread, curse = one.spread.get(kind), one.curse.get(kind)
            entry[kind] = {
                "val": one.result[f"val_{kind}_accuracy"],
                "test": None if one.test is None else one.test[f"{kind}_accuracy"],
                "winners_curse": None if curse is None else vars(curse),
                "seeds": None if spread is None else {**vars(spread), "sd_of_seeds": spread.sd_of_seeds},
            }
        entry["lipschitz"] = {
            "val": one.result["val_lipschitz_mean"],
            "test": one.lipschitz,
            "seeds": list(one.seeds_lipschitz),
        }
        tree.append(
            entry | {"failed_seeds": one.failed, "examples": None if one.test is None else one.test["examples"]}
        )
    return tree


def _together(measured: Sequence[Sequence[Row]]) -> list[Row]:
    """Return one measurement of each network, all on one number of images: where most networks have one, then most."""
    at: dict[int, list[Row]] = {}
    for rows in measured:
        for size, row in {row["examples"]: row for row in reversed(rows)}.items():
            at.setdefault(size, []).append(row)
    return max(at.values(), key=lambda rows: (len(rows), rows[0]["examples"]), default=[])


def _spread(measured: Sequence[Row], kind: str, outcomes: Mapping[str, Mapping[str, np.ndarray]]) -> Spread:
    correct = [outcomes[row["evaluation"]][kind] for row in measured if row["evaluation"] in outcomes]
    if len(correct) == len(measured):
        return seed_spread(np.stack(correct))
    shares = np.array([row[f"{kind}_accuracy"] for row in measured])
    sd = float(shares.std(ddof=1)) if len(shares) > 1 else None
    return Spread(
        seeds=len(shares), examples=measured[0]["examples"], mean=float(shares.mean()), sd=sd, sd_of_examples=None
    )
