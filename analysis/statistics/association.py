"""Associations of Lipschitzness with robustness and generalisation, and of dropout with both; not causal effects.

All of them need proposals that did not depend on results: a sampler that follows the outcome makes settings and
outcomes correlate by itself. `random_share` selects those proposals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.data.results import Table
from analysis.data.schema import ResultsError
from analysis.fronts.objectives import completed_unflagged
from analysis.statistics.intervals import Estimate, Z

LIPSCHITZ = {"val_lipschitz_mean": "raw", "val_lipschitz_scale_free_mean": "scale-free"}
"""The measures of Lipschitzness, and their names in texts."""

OUTCOMES = {
    "val_robust_accuracy": "robust accuracy",
    "clean_minus_robust": "clean minus robust accuracy",
    "clean_gap": "generalisation gap",
    "robust_gap": "adversarial generalisation gap",
}
"""The outcomes: robust accuracy (val); clean minus robust (val); train minus val, clean and robust."""

INDEPENDENT = ("random", "grid")
"""Kinds of proposals that do not depend on results."""

LEAST = 8
"""Fewest trials for which an association is reported."""


@dataclass(frozen=True, kw_only=True)
class Association(Estimate):
    """A rank correlation in [-1, 1], or a slope in units of the outcome, with its 95 % interval.

    Args:
        n: Number of trials.
    """

    n: int

    def __str__(self) -> str:
        return f"{self.signed(digits=2)} (n = {self.n})"


@dataclass(frozen=True, kw_only=True)
class AssociationRow:
    """One association with the columns and the trials that it is between.

    Args:
        of: Name of the first column in texts.
        outcome: Name of the second.
        among: "all methods", "within method" or a method.
        found: The association; None with fewer than `LEAST` trials, or a column that does not vary.
        n: Trials that have both columns.
    """

    of: str
    outcome: str
    among: str
    found: Association | None
    n: int


def random_share(table: Table, /) -> Table:
    """Return the completed, unflagged trials whose proposals did not depend on results.

    Examples:
        >>> rs.random_share(rs.read_studies([study_dir]))["trial_id"].to_pylist()
        ['t00001', 't00003']
    """
    return table.filter(completed_unflagged(table) & independent(table))


def independent(table: Table, /) -> np.ndarray:
    """Mark the rows whose proposals did not depend on results, shape (n,)."""
    return np.array([proposal in INDEPENDENT for proposal in table["proposal"].to_pylist()], dtype=bool)


def why_no_association(table: Table, /) -> str:
    """Return in words why a table whose associations are all missing has none, and what would bring them."""
    share, proposed = random_share(table).num_rows, int(independent(table).sum())
    if not share:
        return (
            "No sound trial was proposed independently of results, so no association of Lipschitzness or dropout with "
            "accuracy is reported: a sampler that follows results creates one by itself. A study with "
            "search.random_fraction above 0 has such trials."
        )
    if share < LEAST:
        missing = math.ceil((LEAST - share) * table.num_rows / proposed)
        return (
            f"Associations need at least {LEAST} randomly proposed trials; this study has {share}. About {missing} "
            f"more trials (`robust-study resume STUDY_DIR --add-trials {missing}`) bring the others, as {proposed} of "
            f"{table.num_rows} are random here."
        )
    return (
        f"The {share} trials proposed independently of results are too few for their number of methods, or vary too "
        "little, for associations; more trials, or fewer methods, would show them."
    )


def lipschitz_associations(table: Table, /) -> list[AssociationRow]:
    """Return the rank correlations of Lipschitzness with each outcome: overall, within method, and per method.

    "Within method" ranks each method's trials among themselves: whether of two trials of one method the smoother one
    tends to be the more robust one, regardless of the methods' levels and spreads. With several studies, each study's
    trials are always ranked among themselves.

    Args:
        table: Result rows, of `random_share`.
    """
    methods, studies, levels = _groups(table)
    everyone = np.ones(len(methods), dtype=bool)
    samples = [("all methods", everyone, studies), ("within method", everyone, levels)]
    samples += [(method, methods == method, studies) for method in sorted(set(methods))]
    rows = []
    for column, of in LIPSCHITZ.items():
        for outcome, label in OUTCOMES.items():
            x, y = measure(table, column), measure(table, outcome)
            complete = ~np.isnan(x + y)
            for among, members, groups in samples:
                rho = spearman(x[members], y[members], groups=groups[members])
                n = int(complete[members].sum())
                rows.append(AssociationRow(of=of, outcome=label, among=among, found=rho, n=n))
    return rows


def dropout_effects(table: Table, /) -> list[AssociationRow]:
    """Return the association of outcomes with 0.1 more dropout: over all, per method, and at matched Lipschitzness.

    The slope of a straight line by least squares, with an intercept for each method of each study; "at matched
    Lipschitzness" also controls for log10 of the scale-free Lipschitz estimate and its square, so that trials
    of equal Lipschitzness are compared. Intervals are heteroscedasticity-robust (HC3).

    Args:
        table: Result rows, of `random_share`.
    """
    methods, _, levels = _groups(table)
    dropout = measure(table, "param.dropout") * 10
    smoothness = np.log10(np.maximum(measure(table, "val_lipschitz_scale_free_mean"), 1e-3))
    outcomes = {"val_clean_accuracy": "clean accuracy", **OUTCOMES}
    rows = []
    for outcome, label in outcomes.items():
        y = measure(table, outcome)
        for among in ("all methods", *sorted(set(methods))):
            members = np.ones(len(methods), dtype=bool) if among == "all methods" else methods == among
            total = slope(dropout[members], y[members], groups=levels[members])
            n = int((~np.isnan(dropout + y))[members].sum())
            rows.append(AssociationRow(of="0.1 dropout", outcome=label, among=among, found=total, n=n))
        matched = slope(dropout, y, groups=levels, controls=[smoothness, smoothness**2])
        among, n = "all methods, at matched Lipschitzness", int((~np.isnan(dropout + y + smoothness)).sum())
        rows.append(AssociationRow(of="0.1 dropout", outcome=label, among=among, found=matched, n=n))
    return rows


def _groups(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each row's method, study, and both as one label, shapes (n,)."""
    methods, studies = (np.asarray(table[name].to_pylist(), dtype=object) for name in ("method", "study"))
    both = [f"{study}\n{method}" for study, method in zip(studies, methods, strict=True)]
    return methods, studies, np.asarray(both, dtype=object)


def measure(table: Table, name: str, /) -> np.ndarray:
    """Return a column as floats, shape (n,), null being NaN; `clean_minus_robust` is that of the val accuracies.

    Raises:
        ResultsError: No such column.
    """
    if name == "clean_minus_robust":
        return np.asarray(measure(table, "val_clean_accuracy") - measure(table, "val_robust_accuracy"))
    if name not in table.column_names:
        if name.startswith("param."):
            return np.full(table.num_rows, np.nan)
        raise ResultsError(f"these results have no column {name!r}; see `analysis.data.schema.RESULT`")
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def spearman(x: ArrayLike, y: ArrayLike, /, *, groups: ArrayLike | None = None) -> Association | None:
    """Return the rank correlation of two columns, pairs with NaN left out, with its 95 % interval.

    Args:
        x: Shape (n,).
        y: Shape (n,).
        groups: Labels, shape (n,): each group is ranked by itself and its ranks brought to mean 0 and deviation 1, so
            that the value is the mean of the groups' own correlations, weighted by size; each costs a degree of
            freedom. Groups of one are left out.

    Returns:
        None with fewer than `LEAST` pairs, or without variation.

    Source: interval by Fisher's transformation with the variance (1 + r^2 / 2) / (n - 3) of Bonett and Wright,
    Psychometrika 65 (2000)

    Examples:
        >>> from analysis.statistics.association import spearman
        >>> found = spearman(range(10), [0, 1, 2, 3, 4, 5, 6, 7, 9, 8])
        >>> round(found.value, 3), found.n
        (0.988, 10)
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    complete, labels = _grouped([first, second], groups)
    n, extra_groups = len(labels), len(np.unique(labels)) - 1
    if n - extra_groups < LEAST:
        return None
    ranks = [_ranks_within(values[complete], labels) for values in (first, second)]
    scale = math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1]))
    if scale < 1e-9 * n:
        return None
    r = float(np.clip(ranks[0] @ ranks[1] / scale, -1, 1))
    half = Z * math.sqrt((1 + r**2 / 2) / (n - extra_groups - 3))
    # Ranks can agree by chance, so the interval shrinks perfect agreement by half a step of the scale.
    most = 1 - 6 / (n * (n**2 - 1))
    middle = math.atanh(np.clip(r, -most, most))
    return Association(value=r, low=min(r, math.tanh(middle - half)), high=max(r, math.tanh(middle + half)), n=n)


def slope(
    x: ArrayLike, y: ArrayLike, /, *, groups: ArrayLike | None = None, controls: Sequence[ArrayLike] = ()
) -> Association | None:
    """Return the slope of y on x by least squares, rows with NaN left out, with its 95 % HC3 interval.

    Args:
        x: Shape (n,).
        y: Shape (n,).
        groups: Labels, shape (n,), each with an intercept of its own; groups of one are left out.
        controls: Further regressors, each (n,).

    Returns:
        None with too few rows, or when x is a linear combination of the other columns.

    Source: MacKinnon and White, Journal of Econometrics 29 (1985).
    """
    from scipy import stats

    columns = [np.asarray(values, dtype=np.float64) for values in (x, *controls)]
    target = np.asarray(y, dtype=np.float64)
    complete, labels = _grouped([target, *columns], groups)
    levels = np.eye(len(np.unique(labels)))[labels]
    design = np.column_stack([*(values[complete] for values in columns), levels])
    n, width = design.shape
    if n - width < LEAST or np.linalg.matrix_rank(design) < width:
        return None
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ target[complete]
    leverage = (design * inverse.T).sum(axis=1)
    residual = (target[complete] - design @ coefficients) / np.maximum(1 - leverage, 1e-9)
    value = float(coefficients[0])
    half = float(stats.t.ppf(0.975, n - width) * np.linalg.norm(inverse[0] * residual))
    return Association(value=value, low=value - half, high=value + half, n=n)


def _grouped(columns: Sequence[np.ndarray], groups: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Mark the rows without NaN, shape (n,), groups of one left out, and number the groups of those rows from 0."""
    complete = ~np.isnan(np.stack(columns)).any(axis=0)
    labels = np.zeros(len(complete), dtype=int) if groups is None else np.unique(groups, return_inverse=True)[1]
    complete &= np.isin(labels, np.flatnonzero(np.bincount(labels[complete]) > 1))
    return complete, np.unique(labels[complete], return_inverse=True)[1]


def _ranks_within(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each group's own ranks about their mean, over the deviation of as many ranks without ties."""
    from scipy import stats

    ranks = np.empty(len(values))
    for label in np.unique(labels):
        members = labels == label
        size = int(members.sum())
        ranks[members] = (stats.rankdata(values[members]) - (size + 1) / 2) / math.sqrt((size**2 - 1) / 12)
    return ranks
