"""The winner's curse of chosen trials on test data, and the spread between new seeds of their settings."""

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
        seeds: Number of seeds.
        examples: Number of test examples.
        mean: Mean accuracy.
        sd: Standard deviation of the measured accuracies, with seeds - 1; None for one seed.
        sd_of_examples: Standard deviation that the finite number of examples alone gives between equally accurate
            networks; None for one seed, or without per-example outcomes.
    """

    seeds: int
    examples: int
    mean: float
    sd: float | None
    sd_of_examples: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.sd is None else f" ± {self.sd:.3f}")

    @property
    def sd_of_seeds(self) -> float | None:
        """The standard deviation of the true accuracies between seeds, without the noise of the examples."""
        if self.sd is None or self.sd_of_examples is None:
            return None
        return float(np.sqrt(max(0.0, self.sd**2 - self.sd_of_examples**2)))


@dataclass(frozen=True, kw_only=True)
class ConfirmedMember:
    """A chosen trial with its results on test.

    Args:
        result: Its result row.
        test: Its measurement on test that differs from validation only in the split, None without one.
        curse: Validation minus test of the same checkpoint by kind, empty without a test measurement.
        spread: New seeds on test by kind, empty without them.
        failed: Number of new seeds that failed.
        lipschitz: Mean local Lipschitz estimate of its own checkpoint on test, None if not measured.
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
    """Return the spread between seeds, separated from the part due to the finite number of examples.

    The outcomes are split as in a two-way analysis of variance without replication. A network's outcomes less
    its own mean and the examples' means have variance s^2; the measured accuracies of k equally accurate networks then
    scatter with variance s^2 / n.

    Args:
        correct: Whether each seed's network classifies each example correctly, boolean, shape (k, n), k, n >= 1.
    """
    outcomes = np.asarray(correct, dtype=np.float64)
    seeds, examples = outcomes.shape
    accuracies = outcomes.mean(axis=1)
    if seeds < 2:
        return Spread(seeds=seeds, examples=examples, mean=float(accuracies.mean()), sd=None, sd_of_examples=None)
    residuals = outcomes - accuracies[:, None] - outcomes.mean(axis=0) + outcomes.mean()
    variance = float((residuals**2).sum()) / ((seeds - 1) * max(examples - 1, 1))
    return Spread(
        seeds=seeds,
        examples=examples,
        mean=float(accuracies.mean()),
        sd=float(accuracies.std(ddof=1)),
        sd_of_examples=float(np.sqrt(variance / examples)),
    )


def mean_curse(val: ArrayLike, test: ArrayLike, /) -> Estimate:
    """Return validation minus test accuracy, averaged over checkpoints, with its 95 % interval.

    All checkpoints share the examples of either split, so the noise is that of each example's mean over checkpoints:
    Wilson's interval of each mean accuracy, with the number of independent examples that gives its variance, at least
    one network's and at most all networks'. Half a right and half a wrong answer common to all checkpoints are added to
    that variance, so that few errors do not count as independent.

    Args:
        val: Correct on validation, boolean, shape (m, n), n >= 1.
        test: Correct on test, boolean, shape (m, n').

    Source: Newcombe, Statistics in Medicine 17 (1998), method 10, for the difference; Korn and Graubard, Survey
    Methodology 24 (1998), for intervals of a proportion with an effective number of examples.
    """
    estimates = []
    for part in (val, test):
        correct = np.asarray(part, dtype=np.float64)
        checkpoints, examples = correct.shape
        shares, weights = np.append(correct.mean(axis=0), [0.0, 1.0]), np.append(np.ones(examples), [0.5, 0.5])
        mean = np.average(shares, weights=weights)
        ratio = mean * (1 - mean) / np.average((shares - mean) ** 2, weights=weights)
        effective = examples * np.clip(ratio, 1, checkpoints)
        value = float(correct.mean())
        low, high = wilson_interval(value * effective, effective)
        estimates.append(Estimate(value=value, low=float(low), high=float(high)))
    return difference(estimates[0], estimates[1])


def confirmed(
    members: Sequence[Row],
    evaluations: Sequence[Row],
    /,
    *,
    replicas: Sequence[Row] = (),
    outcomes: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> list[ConfirmedMember]:
    """Collect the results on test of each member.

    Args:
        members: Result rows of chosen trials.
        evaluations: Evaluation rows of the study and of its new seeds.
        replicas: Result rows of the new seeds; `replicate_of` is a member's number.
        outcomes: Whether each test example was classified correctly, by the name of a new seed's measurement and by
            kind.
    """
    confirmed_members = []
    for member in members:
        test = like_for_like(member, evaluations)
        replicas_of_member = [row for row in replicas if row["replicate_of"] == member["number"]]
        measured = _together([alike(row, evaluations) for row in replicas_of_member])
        confirmed_members.append(
            ConfirmedMember(
                result=member,
                test=test,
                curse={} if test is None else {kind: gap(member, test, kind) for kind in KINDS},
                spread={kind: _spread(measured, kind, outcomes or {}) for kind in KINDS} if measured else {},
                failed=sum(row["status"] == "failed" for row in replicas_of_member),
                lipschitz=lipschitz_on_test(member, evaluations),
                seeds_lipschitz=tuple(
                    value for row in replicas_of_member if (value := lipschitz_on_test(row, evaluations)) is not None
                ),
            )
        )
    return confirmed_members


def as_tree(members: Sequence[ConfirmedMember], /) -> list[dict[str, Any]]:
    """Return confirmed members as plain values, for JSON."""
    tree = []
    for member in members:
        entry: dict[str, Any] = {name: member.result[name] for name in ("trial_id", "method", "seed")}
        for kind in KINDS:
            spread, curse = member.spread.get(kind), member.curse.get(kind)
            entry[kind] = {
                "val": member.result[f"val_{kind}_accuracy"],
                "test": None if member.test is None else member.test[f"{kind}_accuracy"],
                "winners_curse": None if curse is None else vars(curse),
                "seeds": None if spread is None else {**vars(spread), "sd_of_seeds": spread.sd_of_seeds},
            }
        entry["lipschitz"] = {
            "val": member.result["val_lipschitz_mean"],
            "test": member.lipschitz,
            "seeds": list(member.seeds_lipschitz),
        }
        tree.append(
            entry
            | {"failed_seeds": member.failed, "examples": None if member.test is None else member.test["examples"]}
        )
    return tree


def _together(measured: Sequence[Sequence[Row]]) -> list[Row]:
    """Return one measurement per network, all on the number of images that most networks have; the largest on ties."""
    by_size: dict[int, list[Row]] = {}
    for rows in measured:
        for size, row in {row["examples"]: row for row in reversed(rows)}.items():
            by_size.setdefault(size, []).append(row)
    return max(by_size.values(), key=lambda rows: (len(rows), rows[0]["examples"]), default=[])


def _spread(measured: Sequence[Row], kind: str, outcomes: Mapping[str, Mapping[str, np.ndarray]]) -> Spread:
    correct = [outcomes[row["evaluation"]][kind] for row in measured if row["evaluation"] in outcomes]
    if len(correct) == len(measured):
        return seed_spread(np.stack(correct))
    shares = np.array([row[f"{kind}_accuracy"] for row in measured])
    sd = float(shares.std(ddof=1)) if len(shares) > 1 else None
    return Spread(
        seeds=len(shares), examples=measured[0]["examples"], mean=float(shares.mean()), sd=sd, sd_of_examples=None
    )
