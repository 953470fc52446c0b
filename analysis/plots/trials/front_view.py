"""What the Pareto figures show, worked out once for the printed and the interactive one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.ticker import MaxNLocator

from analysis.data.anchors import Anchor
from analysis.data.results import Table
from analysis.fronts.front import feasible, on_front, on_infeasible_front
from analysis.fronts.objectives import FRONT, LIPSCHITZ_FLOOR, Objective, keeps_constraints, objective, values
from analysis.fronts.strong_attacks import StrongResult, certified_of
from analysis.statistics.intervals import wilson_interval
from analysis.statistics.networks.separated_classifier import ClassifierPoint, SeparatedClassifier, classifier_point
from analysis.wording import LOWER_BOUND, measured_by, provenance, radius_phrase

_NEAR = 4
"""How far behind the front an axis reaches where trials far behind it would take most of it; see `limits`."""


_FEWEST_TICKS = 3


@dataclass(frozen=True, kw_only=True)
class ColourScale:
    """Ends of a colour scale, whether it is logarithmic, and whether values lie below its low end."""

    low: float
    high: float
    log: bool = False
    below: bool = False

    def ticks(self) -> list[float]:
        """Return round values to mark, all within the scale: powers of ten, with steps between where they are few."""
        powers = 10.0 ** np.arange(np.floor(np.log10(self.low)), np.ceil(np.log10(self.high)) + 1)
        for steps in ((1,), (1, 2, 5)):
            marks = [float(step * power) for power in powers for step in steps if self.low <= step * power <= self.high]
            if len(marks) >= _FEWEST_TICKS:
                return marks
        even = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        return [float(mark) for mark in even if self.low <= mark <= self.high]


@dataclass(frozen=True, kw_only=True)
class ParetoView:
    """The points of a Pareto figure, what they are called, and which are what.

    Args:
        points: Shape (n, 2), the first two objectives; NaN where not measured.
        methods: One per point.
        lipschitz: Mean empirical local Lipschitz lower bound on validation, shape (n,), NaN where not measured.
        ends: 95 % Wilson intervals of accuracies, shape (n, 2, 2): low and high of x, then of y; else NaN.
        front: Members of the front, shape (n,).
        infeasible_front: Infeasible trials that no other infeasible one dominates, shape (n,).
        doubtful: Drawn but never on the front, shape (n,): flagged, stopped early, against its study's constraints, or
            without a further objective that the front is taken over.
        strong: What strong attacks leave of `points`, shape (n, 2): robust accuracy less its fall; NaN if not attacked.
        certified: `points` with certified in place of robust accuracy, shape (n, 2): the lower end of what the true one
            may be; NaN where nothing is proved.
        fallen: Members that strong attacks or all checks cast doubt on, shape (n,).
        hollow: Why points are doubtful, "flagged or stopped early"; empty where none is.
        labels: What each point is called in the figure: its trial's number, or its id where that has none.
        theory: The theorem's classifier as a point (x, y), None where it is not measured or has no such axes.
        theory_text: What the theorem promises and its classifier keeps, in one sentence; empty without it.
        anchors: Published networks on test as points (x, y), shape (m, 2).
        objectives: All objectives the front was taken over.
        x_label: Metric, split and, for a robust one, the attack.
        y_label: Likewise.
        colour_label: What the colour shows.
        small_print: Study, data set, counts.
    """

    points: np.ndarray
    methods: list[str]
    lipschitz: np.ndarray
    ends: np.ndarray
    front: np.ndarray
    infeasible_front: np.ndarray
    doubtful: np.ndarray
    strong: np.ndarray
    certified: np.ndarray
    fallen: np.ndarray
    hollow: str
    labels: list[str]
    theory: tuple[float, float] | None
    theory_text: str
    anchors: np.ndarray
    objectives: tuple[Objective, ...]
    x_label: str
    y_label: str
    colour_label: str
    small_print: str

    @property
    def drawn(self) -> np.ndarray:
        """Mark the points that have both coordinates, shape (n,)."""
        return np.asarray(np.isfinite(self.points).all(axis=1))

    @property
    def dominated(self) -> np.ndarray:
        """Mark the drawn points that are sound but not on the front, shape (n,)."""
        return np.asarray(self.drawn & ~self.front & ~self.doubtful)

    def staircase(self, low: Sequence[float], high: Sequence[float], /, *, of: np.ndarray | None = None) -> np.ndarray:
        """Return the boundary of the region that the front attains, as corners shape (m, 2).

        The region is all that some member is at least as good as; between two members it has a step, not a slope,
        because no trial attained what lies on a slope. The ends run on to the worst values of the plane shown.

        Args:
            low: Smallest x and y shown.
            high: Largest x and y shown.
            of: Marks the members, shape (n,); the front's when None.

        Returns:
            Corners in order; empty for no member, or for a front over more than the two objectives drawn.
        """
        marked = self.front if of is None else of
        if len(self.objectives) != 2 or not marked.any():
            return np.empty((0, 2))
        up_x, up_y = (entry.maximise for entry in self.objectives)
        members = np.unique(self.points[marked], axis=0)
        members = members if up_x else members[::-1]
        worst_x, worst_y = (low[axis] if up else high[axis] for axis, up in enumerate((up_x, up_y)))
        x = np.concatenate([[worst_x], np.repeat(members[:, 0], 2)])
        y = np.concatenate([np.repeat(members[:, 1], 2), [worst_y]])
        return np.stack([x, y], axis=1)

    @property
    def inside(self) -> np.ndarray:
        """Mark the drawn points that lie within the limits of the axes, shape (n,)."""
        low, high = np.asarray([self.limits(axis) for axis in (0, 1)]).T
        return np.asarray(self.drawn & ((self.points >= low) & (self.points <= high)).all(axis=1))

    @property
    def theory_inside(self) -> bool:
        """Return whether the theorem's classifier lies within the limits of the axes."""
        limits = map(self.limits, (0, 1))
        return self.theory is not None and all(
            low <= value <= high for value, (low, high) in zip(self.theory, limits, strict=True)
        )

    @property
    def drawing_order(self) -> np.ndarray:
        """Return the rows of drawn points, those drawn first first: dominated, hollow, then the front."""
        return np.concatenate([np.flatnonzero(part) for part in (self.dominated, self.doubtful, self.front)])

    @property
    def outside(self) -> int:
        """Return how many points lie beyond the limits of the axes."""
        return int((self.drawn & ~self.inside).sum())

    @property
    def anchors_label(self) -> str:
        """Describe the published networks for a legend, with the number of those beyond the axes."""
        ends = np.array([self.limits(0), self.limits(1)])
        outside = int(((self.anchors < ends[:, 0]) | (self.anchors > ends[:, 1])).any(axis=1).sum())
        return f"published, on test ({len(self.anchors)}{f', {outside} outside the axes' if outside else ''})"

    def limits(self, axis: int) -> tuple[float, float]:
        """Return limits for an axis: points and a margin; accuracies leave [0, 1] by no more than a marker.

        Trials far behind the front, collapsed ones above all, would press it into a corner. Where they would take most
        of the axis it ends `_NEAR` times the median distance from the best value behind the front's worst member, and
        the other axis need not reach them either.
        """
        points = self.points[self.drawn]
        fraction = self.objectives[axis].unit == "fraction"
        if not len(points):
            return (0.0, 1.0)
        points = points[np.all([self._is_near(place, points[:, place]) for place in (0, 1)], axis=0)]
        beside = self._beside(axis)
        shown = np.concatenate([points[:, axis], beside[self._is_near(axis, beside)]])
        ends = np.concatenate([shown, self.ends[self.front, axis].ravel(), self.strong[self.front, axis]])
        low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
        margin = max(0.07 * (high - low), 0.025)
        low, high = low - margin, high + margin
        beyond = 0.05 * (high - low)
        return (max(low, -beyond), min(high, 1 + beyond)) if fraction else (low, high)

    def _beside(self, axis: int) -> np.ndarray:
        """Return an axis's values that are drawn beside the trials."""
        proved = self.certified[self.front, axis]
        theory = [] if self.theory is None else [self.theory[axis]]
        return np.array([*theory, *self.anchors[:, axis], *proved[np.isfinite(proved)]], dtype=np.float64)

    def _is_near(self, axis: int, shown: np.ndarray) -> np.ndarray:
        """Mark those of an axis's values that it should reach, all of them where they do not press the front."""
        members, sound = self.points[self.front, axis], self.points[self.drawn & ~self.doubtful, axis]
        if not len(members):
            return np.ones(len(shown), dtype=bool)
        sign = 1.0 if self.objectives[axis].maximise else -1.0
        best, worst = (sign * members).max(), (sign * members).min()
        last = worst - _NEAR * max(float(np.median(best - sign * sound)), best - worst)
        farthest = (sign * np.concatenate([self.points[self.drawn, axis], self._beside(axis)])).min()
        return np.asarray((sign * shown >= last) | (last - farthest <= best - last))

    def colour_scale(self) -> ColourScale | None:
        """Return how Lipschitz estimates map to colour, or None if no trial within the axes has one.

        It is logarithmic. Values under the floor (a constant network has 0) do not stretch it.
        """
        known = self.lipschitz[self.inside & np.isfinite(self.lipschitz)]
        if not len(known):
            return None
        positive = known[known >= LIPSCHITZ_FLOOR]
        low, high = float(known.min()), float(known.max())
        if len(positive) and high > positive.min():
            return ColourScale(low=float(positive.min()), high=high, log=True, below=low < LIPSCHITZ_FLOOR)
        return ColourScale(low=low, high=high) if high > low else ColourScale(low=0.9 * low, high=1.1 * high or 1.0)


def pareto_view(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    strong: Mapping[str, StrongResult] | None = None,
    classifier: SeparatedClassifier | None = None,
    anchors: Sequence[Anchor] = (),
) -> ParetoView:
    """Work out what a Pareto figure of a result table shows.

    Args:
        table: Result rows.
        objectives: Names of those the front is taken over, at least two; the first two are the axes.
        strong: Members' values under strong attacks, by trial.
        classifier: The theorem's classifier on the study's own images.
        anchors: Published networks of the same threat model; over clean and robust accuracy alone.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
        ValueError: Fewer than two objectives, or unknown ones.
    """
    if len(objectives) < 2:
        raise ValueError(f"a Pareto figure needs at least two objectives, got {list(objectives)}")
    entries = tuple(objective(name) for name in objectives)
    coordinates = values(table, objectives)
    points = coordinates[:, :2]
    measured = np.isfinite(points).all(axis=1)
    counted = feasible(table) & ~np.isnan(coordinates).any(axis=1)
    theory = classifier_point(classifier, table) if set(objectives[:2]) == set(FRONT) else None
    doubted = {trial for trial, result in (strong or {}).items() if result.doubts}
    view = ParetoView(
        points=points,
        methods=table["method"].to_pylist(),
        lipschitz=table["val_lipschitz_mean"].to_numpy(zero_copy_only=False),
        ends=np.stack([_ends(entry, points[:, axis], table) for axis, entry in enumerate(entries[:2])], axis=1),
        front=on_front(table, objectives=objectives),
        infeasible_front=on_infeasible_front(table, objectives=objectives),
        doubtful=measured & ~counted,
        strong=points - _falls(table, entries[:2], strong or {}),
        certified=_certified(table, entries[:2], points, strong or {}),
        fallen=np.array([trial in doubted for trial in table["trial_id"].to_pylist()], dtype=bool),
        hollow=why_hollow(table, measured & ~counted),
        labels=_labels(table),
        theory=None if theory is None else _in_order(theory, objectives),
        theory_text="" if theory is None else theory.sentence,
        anchors=_anchors(anchors, objectives),
        objectives=entries,
        x_label=_axis_label(entries[0], table),
        y_label=_axis_label(entries[1], table),
        colour_label=f"{LOWER_BOUND}\n(val mean, radius {radius_phrase(table)})",
        small_print=provenance(table),
    )
    return replace(view, small_print=f"{view.small_print} · {beyond_axes(view.outside)}") if view.outside else view


def beyond_axes(trials: int, /) -> str:
    """Return how many trials the axes leave out, in words."""
    return f"{trials} trial{'s' * (trials != 1)} far behind the front outside the axes"


def _labels(table: Table) -> list[str]:
    rows = zip(table["trial_id"].to_pylist(), table["number"].to_pylist(), strict=True)
    return [str(number) if trial.endswith(f"{number:05d}") else trial.rpartition("/")[2] for trial, number in rows]


def _in_order(theory: ClassifierPoint, objectives: Sequence[str]) -> tuple[float, float]:
    return (theory.clean, theory.certified) if objectives[0] == FRONT[0] else (theory.certified, theory.clean)


def _anchors(anchors: Sequence[Anchor], objectives: Sequence[str]) -> np.ndarray:
    points = np.array([(anchor.clean, anchor.robust) for anchor in anchors], dtype=np.float64).reshape(-1, 2)
    if set(objectives[:2]) != set(FRONT):
        return points[:0]
    return points if objectives[0] == FRONT[0] else points[:, ::-1]


def _falls(table: Table, entries: Sequence[Objective], strong: Mapping[str, StrongResult]) -> np.ndarray:
    """Return how far strong attacks lower each point, shape (n, 2); NaN for trials that were not attacked."""
    falls = [strong[trial].fall if trial in strong else np.nan for trial in table["trial_id"].to_pylist()]
    robust = np.array([entry.column == "val_robust_accuracy" for entry in entries])
    return np.where(robust, np.array(falls)[:, None], 0.0)


def _certified(
    table: Table, entries: Sequence[Objective], points: np.ndarray, strong: Mapping[str, StrongResult]
) -> np.ndarray:
    """Return `points` with certified in place of robust accuracy, shape (n, 2); NaN without."""
    rows = table.select(["trial_id", "val_certified_accuracy", "val_robust_accuracy"]).to_pylist()
    proved = np.array([certified_of(row, strong.get(row["trial_id"])) for row in rows], dtype=np.float64)[:, None]
    robust = np.array([entry.column == "val_robust_accuracy" for entry in entries])
    return np.where(robust, proved, np.where(np.isnan(proved) | ~robust.any(), np.nan, points))


def _ends(entry: Objective, measured: np.ndarray, table: Table) -> np.ndarray:
    """Return the Wilson intervals of an accuracy's values (n,), shape (n, 2); NaN for another objective."""
    ends = np.full((len(measured), 2), np.nan)
    known = np.isfinite(measured) & (entry.unit == "fraction")
    examples = table["examples"].to_numpy(zero_copy_only=False)[known].astype(np.float64)
    ends[known] = np.stack(wilson_interval(np.rint(measured[known] * examples), examples), axis=1)
    return ends


def why_hollow(table: Table, doubtful: np.ndarray, /) -> str:
    """Return why the marked rows may not be on a front, "flagged or stopped"; empty where none is marked."""
    rows = table.select(["status", "flags"]).take(np.flatnonzero(doubtful)).to_pylist()
    infeasible = ~keeps_constraints(table)[doubtful]
    unsound = [bool(row["flags"]) or row["status"] != "completed" for row in rows]
    reasons = {
        "flagged": any(row["flags"] for row in rows),
        "stopped": any(row["status"] == "stopped_early" for row in rows),
        "infeasible": bool(infeasible.any()),
        "lacking an objective": not all(known or missed for known, missed in zip(unsound, infeasible, strict=True)),
    }
    return " or ".join(reason for reason, occurs in reasons.items() if occurs)


def _axis_label(entry: Objective, table: Table) -> str:
    if entry.column.endswith("robust_accuracy"):
        return f"{entry.label} ({entry.split})\n{measured_by(table)}"
    if "lipschitz" in entry.column:
        return f"{entry.label}\n(lower bound, {entry.split} mean, {radius_phrase(table)})"
    return f"{entry.label} ({entry.split})"
