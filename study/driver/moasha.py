"""Multi-objective asynchronous successive halving: which trials are worth their remaining epochs.

Pure arithmetic, without Ray: `study.driver.schedulers` uses it while a study runs, and the benchmark that replays
recorded learning curves uses the same code.

Sources: Schmucker, Donini, Zafar, Salinas & Archambeau 2021, "Multi-objective Asynchronous Successive Halving"
(arXiv 2106.12639), algorithm 1 with its epsilon-net selection, but stopping at a rung where the paper pauses, as in Ray
Tune's ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934);
Deb, Pratap, Agarwal & Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", for non-dominated
rank first and spread second.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.fronts.front import non_dominated

MIN_TRIALS = 5
"""Trials that must have reached a rung, the judged one included, before it stops any."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision of a rung about one trial.

    Attributes:
        continues: Whether the trial runs on past the rung.
        place: Its place at the rung by rank, then spread, from 1 for the best.
        rank: Its non-dominated rank, 1 for a trial that no other at the rung dominates; None where a value is missing.
        trials: Number of trials compared, this one included.
        quota: Number of first places that continue.
    """

    continues: bool
    place: int
    rank: int | None
    trials: int
    quota: int


def judge(
    points: Mapping[str, Sequence[float]],
    trial: str,
    /,
    *,
    maximise: Sequence[bool],
    reduction_factor: float,
    excluded: Collection[str] = (),
) -> Verdict:
    """Return the decision of a rung about a trial.

    One in `reduction_factor` trials continues, rounded up: those of the lowest non-dominated rank first (rank 1 is not
    dominated by any, rank 2 is not dominated once rank 1 is removed, and so on), within a rank in the order of
    `spread_out`. A trial of rank 1 always continues, because the front is the study's result. Trials with NaN come
    last, in the order of their names.

    The rule is asynchronous: a trial is compared with those that reached the rung before it, of which an early trial
    has few.

    Args:
        points: The values at the rung by trial, the judged one included.
        trial: The trial to judge.
        maximise: Whether larger is better, for each objective.
        reduction_factor: Above 1.
        excluded: Trials whose values count as NaN.
    """
    names = sorted(points)
    no_values = (math.nan,) * len(maximise)
    remaining = np.array([no_values if name in excluded else points[name] for name in names], dtype=np.float64)
    judged = names.index(trial)
    quota = math.ceil(len(names) / reduction_factor)
    before, rank = 0, 1
    while not (front := non_dominated(remaining, maximise=maximise))[judged] and front.any():
        before += int(front.sum())
        rank += 1
        remaining[front] = math.nan
    if front.any():
        members = np.flatnonzero(front)
        peers = members[spread_out(remaining[members], maximise=maximise)]
    else:
        # the judged trial has NaN: it comes after all others, among those that have NaN too
        rank = 0
        peers = np.asarray(
            [index for index, name in enumerate(names) if name in excluded or any(map(math.isnan, points[name]))]
        )
    place = before + int(np.flatnonzero(peers == judged)[0]) + 1
    return Verdict(
        continues=place <= quota or rank == 1 or len(names) < MIN_TRIALS,
        place=place,
        rank=rank or None,
        trials=len(names),
        quota=quota,
    )


def spread_out(front: ArrayLike, /, *, maximise: Sequence[bool]) -> list[int]:
    """Order points so that the first few, however many, are spread out over all of them.

    The best point of each objective comes first, then repeatedly the point farthest from those chosen before it
    (Euclidean distance, each objective scaled to its range). Ties go to the earlier point.

    Args:
        front: Finite points, shape (n, k), n >= 1.
        maximise: Whether larger is better, for each objective.

    Returns:
        The points' indices in that order.
    """
    points = np.asarray(front, dtype=np.float64)
    signed = np.where(maximise, points, -points)
    extent = np.ptp(signed, axis=0)
    scaled = signed / np.where(extent > 0, extent, 1.0)
    chosen: list[int] = []
    gap = np.full(len(points), np.inf)
    bests = [int(index) for index in signed.argmax(axis=0)]
    while len(chosen) < len(points):
        index = next((best for best in bests if best not in chosen), int(gap.argmax()))
        chosen.append(index)
        gap = np.minimum(gap, np.linalg.norm(scaled - scaled[index], axis=1))
        gap[chosen] = -1.0
    return chosen
