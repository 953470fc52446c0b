"""How much each hyperparameter matters for each objective, by Optuna's evaluator, computed from result rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import BaseImportanceEvaluator

from analysis.fronts.distance import front_distance
from analysis.fronts.front import feasible
from analysis.fronts.objectives import FRONT, completed_unflagged, values
from analysis.statistics.association import independent, random_share
from analysis.statistics.importance import LEAST, NEAR_FRONT, MethodImportance, ranks

MAX_TRIALS = 160
"""Trials used at most, evenly spread by number: more cost time and hardly change the result."""

MAX_METHOD_TRIALS = 60
"""Trials of one method used at most for the importances within it, which need a forest per method and objective."""

TREES = 32
"""Trees of a forest."""

OBJECTIVES = (*FRONT, "val_lipschitz_scale_free_log10")
"""Objectives whose importances every report and figure shows."""

NEAREST = 5
"""Fewest trials that count as near the front: PED-ANOVA is unstable for fewer."""

FEW = 5
"""A setting with no more values than these, as in a grid, counts as a choice: PED-ANOVA's density of numbers would be
nearly all spikes, and any chance difference an importance near 1."""

_SEED = 0


def objectives_shown(study_dirs: Iterable[Path], /) -> tuple[str, ...]:
    """Return the objectives whose importances are shown: `OBJECTIVES`, then the studies' other search objectives."""
    from study.directory.layout import CONFIG_FILE, open_config

    homes = [home for home in study_dirs if (home / CONFIG_FILE).is_file()]
    return tuple(
        dict.fromkeys([*OBJECTIVES, *(name for home in homes for name in open_config(home).search.objectives)])
    )


def importances(
    rows: Sequence[Mapping[str, Any]], objectives: Sequence[str], /, *, max_trials: int = MAX_TRIALS
) -> dict[str, dict[str, float]]:
    """Return each hyperparameter's main effect on each objective, as its share of a forest's variance (fANOVA).

    Interactions of hyperparameters are left out, so shares add up to less than 1. The forest also fits noise: a share
    is no evidence of an effect.

    Args:
        rows: Completed, unflagged result rows, preferably of trials whose proposals did not depend on results.
        objectives: Names of objectives; `NEAR_FRONT` is the rank of the rows' distances to the front, a column.
        max_trials: Rows used at most, evenly spread.

    Returns:
        The shares, in [0, 1], by objective and hyperparameter, largest first. `method` counts as one hyperparameter;
        those that only some methods have are left out. An objective with fewer than `LEAST` measured rows, or one
        that does not vary, is missing; all are missing where no hyperparameter varies.
    """
    indices = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), max_trials)).round().astype(int))
    used = [rows[index] for index in indices]
    by_objective = {}
    for name in objectives:
        known = np.array([row[NEAR_FRONT] if name == NEAR_FRONT else values(row, [name])[0] for row in used])
        measured = np.flatnonzero(np.isfinite(known))
        targets = ranks(known[measured]) if name == NEAR_FRONT else known[measured]
        if shares := _shares([used[place] for place in measured], targets.tolist(), _fanova(), normalize=False):
            by_objective[name] = shares
    return by_objective


def importance_near_front(table: Any, /) -> dict[str, dict[str, float]]:
    """Return what matters for being near the front rather than for one objective, by what was computed, in words.

    fANOVA explains the rank by distance to the front (`analysis.fronts.distance`), since a few collapsed trials would
    be most of the variance of the distance itself. PED-ANOVA compares the settings of the nearest tenth of the trials,
    five at least and all that are as near, with those of all, and adds up to 1; it is left out where that is every
    trial. Only trials whose proposals did not depend on results are used: of the sampler's own, many are near the front
    for being proposed there.

    Returns:
        Empty where there are fewer than `LEAST` such trials, all are equally near, or no setting varies.
    """
    distances = front_distance(table)
    chosen = np.flatnonzero(np.isfinite(distances) & completed_unflagged(table) & independent(table))
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), MAX_TRIALS)).round().astype(int))]
    if len(chosen) < LEAST:
        return {}
    rows, targets = table.take(chosen).to_pylist(), distances[chosen].tolist()
    nearest = max(NEAREST, math.ceil(len(rows) / 10))
    cutoff = sorted(targets)[nearest - 1]
    compared = sum(target <= cutoff for target in targets)  # with all that are as near, such as the whole front
    ped_anova = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=(nearest - 0.5) / len(rows))
    found = {
        "rank by distance to the front: main effect, share of a forest's variance (fANOVA)": _shares(
            rows, ranks(distances[chosen]).tolist(), _fanova(), normalize=False
        )
    }
    if compared < len(rows):  # else the nearest are all
        name = f"being among the {compared} nearest to the front of {len(rows)} trials (PED-ANOVA)"
        found[name] = _shares(rows, targets, ped_anova, normalize=True)
    return {name: shares for name, shares in found.items() if shares}


def importance_of(table: Any, objectives: Sequence[str] = OBJECTIVES, /) -> tuple[dict[str, dict[str, float]], str]:
    """Return the importances for each objective, and a description of the trials they are computed from.

    These are the trials whose proposals did not depend on results; where there are fewer than `LEAST`, all feasible
    trials.
    """
    random = random_share(table)
    enough = random.num_rows >= LEAST
    trials = random if enough else table.filter(feasible(table))
    count = min(trials.num_rows, MAX_TRIALS)
    if enough:
        description = f"n = {count} trials proposed independently of results"
    else:
        description = (
            f"n = {count} completed, unflagged trials, including the sampler's own (only {random.num_rows} were "
            "proposed independently of results), so shares also reflect where it searched"
        )
    return importances(trials.to_pylist(), objectives), description


def importance_within(table: Any, objectives: Sequence[str] = OBJECTIVES, /) -> list[MethodImportance]:
    """Return the importances within each method, its strength and training radius included, methods sorted.

    They are for each objective and for the rank by distance to the front of the whole table.

    They are computed from the method's trials whose proposals did not depend on results; where there are fewer than
    `LEAST`, from all its feasible trials; where these are fewer too, only their number is returned.
    """
    table = table.append_column(NEAR_FRONT, [front_distance(table)])
    objectives = (*objectives, NEAR_FRONT)
    random, feasible_rows = random_share(table).to_pylist(), table.filter(feasible(table)).to_pylist()
    by_method = []
    for method in sorted(set(table["method"].to_pylist())):
        rows = [row for row in random if row["method"] == method]
        unaffected = len(rows) >= LEAST
        if not unaffected:
            rows = [row for row in feasible_rows if row["method"] == method]
        enough = len(rows) >= LEAST
        by_method.append(
            MethodImportance(
                method=method,
                trials=min(len(rows), MAX_METHOD_TRIALS) if enough else len(rows),
                independent=unaffected,
                shares=importances(rows, objectives, max_trials=MAX_METHOD_TRIALS) if enough else {},
            )
        )
    return by_method


def _fanova() -> BaseImportanceEvaluator:
    return optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=_SEED)


def _shares(
    rows: Sequence[Mapping[str, Any]],
    targets: Sequence[float],
    evaluator: BaseImportanceEvaluator,
    *,
    normalize: bool,
) -> dict[str, float]:
    """Return the importance of each hyperparameter for low targets; empty for too few rows, or where nothing varies."""
    if len(rows) < LEAST or len(set(targets)) < 2:
        return {}
    study = _study_of(rows, targets)
    if not study.trials[0].distributions:
        return {}
    with warnings.catch_warnings():
        # raw shares are marked experimental; normalised ones would always add up to 1
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=normalize))


def _study_of(rows: Sequence[Mapping[str, Any]], targets: Sequence[float]) -> optuna.Study:
    distributions = _distributions(rows)
    # no notice of the new in-memory study
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.create_trial(
                value=value, params={name: row[name] for name in distributions}, distributions=distributions
            )
            for row, value in zip(rows, targets, strict=True)
        ]
    )
    return study


def _distributions(rows: Sequence[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """Return a distribution for each hyperparameter column that every row has and that varies."""
    distributions: dict[str, BaseDistribution] = {}
    methods = sorted({row["method"] for row in rows})
    if len(methods) > 1:
        distributions["method"] = CategoricalDistribution(methods)
    for name in rows[0]:
        if not name.startswith("param.") and name != "train_epsilon":
            continue
        column = [float(row[name]) for row in rows if row.get(name) is not None]
        if len(column) < len(rows) or len(set(column)) < 2:
            continue
        if len(set(column)) <= FEW:
            distributions[name] = CategoricalDistribution(sorted(set(column)))
            continue
        low, high = min(column), max(column)
        distributions[name] = FloatDistribution(low, high, log=low > 0 and high > 100 * low)
    return distributions
