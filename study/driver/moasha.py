"""Multi-objective asynchronous successive halving: which trials are worth their remaining epochs.

Pure arithmetic on numbers, without Ray: `study.driver.schedulers` asks it while a study runs, the replay of
recorded learning curves asks the same code.

Sources: Schmucker, Donini, Zafar, Salinas & Archambeau 2021, "Multi-objective Asynchronous Successive Halving"
(arXiv 2106.12639), algorithm 1 with its epsilon-net selection, but stopping at a rung where the paper pauses, as Ray
Tune's form of ASHA does (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934);
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
"""Trials a rung must have seen, the judged one included, before it stops one."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rung says of one trial.

    Attributes:
        goes_on: Whether the trial is worth its next epochs.
        place: Its place at the rung by rank, then spread; 1 is the best.
        rank: Its non-dominated rank, 1 for what nothing at the rung dominates; None where a value is missing.
        trials: Trials compared, this one included.
        quota: How many of the first places go on.
    """

    goes_on: bool
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
    """Return what a rung says of a trial.

    One in `reduction_factor` trials goes on, rounded up: those of the lowest non-dominated rank first (rank 1 is what
    nothing dominates, rank 2 what nothing dominates once rank 1 is taken away, and so on), within a rank in the order
    of `spread_out`. A trial of rank 1 goes on in any case: the front is what the study is after. Trials with NaN come
    last, in the order of their names.

    Asynchronous: a trial is compared with those that reached the rung before it, so an early one meets few.

    Args:
        points: Each trial's values at the rung, the judged one's included.
        trial: The trial to judge.
        maximise: Whether larger is better, for each objective.
        reduction_factor: Above 1.
        excluded: Trials that count as having NaN whatever their values.
    """
    names = sorted(points)
    nothing = (math.nan,) * len(maximise)
    left = np.array([nothing if name in excluded else points[name] for name in names], dtype=np.float64)
    mine = names.index(trial)
    quota = math.ceil(len(names) / reduction_factor)
    before, rank = 0, 1
    while not (front := non_dominated(left, maximise=maximise))[mine] and front.any():
        before += int(front.sum())
        rank += 1
        left[front] = math.nan
    if front.any():
        members = np.flatnonzero(front)
        among = members[spread_out(left[members], maximise=maximise)]
    else:
        # the judged trial has NaN: behind every other, beside those that have NaN too
        rank = 0
        among = np.asarray([index for index, name in enumerate(names) if _lacks(points[name]) or name in excluded])
    place = before + int(np.flatnonzero(among == mine)[0]) + 1
    return Verdict(
        goes_on=place <= quota or rank == 1 or len(names) < MIN_TRIALS,
        place=place,
        rank=rank or None,
        trials=len(names),
        quota=quota,
    )


def spread_out(front: ArrayLike, /, *, maximise: Sequence[bool]) -> list[int]:
    """Order points so that every beginning of the order is spread out over them.

    The best point of each objective comes first, then again and again the point farthest from those before it
    (Euclidean, each objective scaled to its range). Ties go to the earlier point.

    Args:
        front: Finite points, shape (n, k), n >= 1.
        maximise: Whether larger is better, for each objective.

    Returns:
        A permutation of the points' indices.
    """
    points = np.asarray(front, dtype=np.float64)
    signed = np.where(maximise, points, -points)
    extent = np.ptp(signed, axis=0)
    scaled = signed / np.where(extent > 0, extent, 1.0)
    chosen: list[int] = []
    gap = np.full(len(points), np.inf)
    bests = [int(index) for index in signed.argmax(axis=0)]
    while len(chosen) < len(points):
        waiting = [best for best in bests if best not in chosen]
        index = waiting[0] if waiting else int(gap.argmax())
        chosen.append(index)
        gap = np.minimum(gap, np.linalg.norm(scaled - scaled[index], axis=1))
        gap[chosen] = -1.0
    return chosen


def _lacks(point: Sequence[float]) -> bool:
    return any(map(math.isnan, point))
