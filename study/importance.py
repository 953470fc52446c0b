"""How much each hyperparameter matters for each objective, by Optuna's evaluator, computed from result rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from analysis.association import random_share
from analysis.fronts import feasible
from analysis.objectives import FRONT, values

LEAST = 20
"""Fewest trials from which an importance is computed."""

MOST = 250
"""Most trials that enter, evenly spread by number: the trees' cost grows with them, their answer hardly changes."""

_SEED = 0


def importances(rows: Sequence[Mapping[str, Any]], objectives: Sequence[str], /) -> dict[str, dict[str, float]]:
    """Return by objective, and by hyperparameter, the share of the objective's variance it accounts for (fANOVA).

    Args:
        rows: Completed, unflagged result rows; best of those whose proposals did not depend on results.
        objectives: Names of objectives.

    Returns:
        Largest first; `method` counts as one hyperparameter, those that only some methods have are left out. An
        objective with fewer than `LEAST` measured rows, or one that does not vary, is missing.
    """
    step = max(1, math.ceil(len(rows) / MOST))
    chosen = rows[::step]
    found = {}
    for name in objectives:
        known = [(row, float(values(row, [name])[0])) for row in chosen]
        known = [(row, value) for row, value in known if math.isfinite(value)]
        if len(known) < LEAST or len({value for _, value in known}) < 2:
            continue
        study = _study_of([row for row, _ in known], [value for _, value in known])
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=_SEED)
        found[name] = dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    return found


def importance_of(table: Any, /) -> dict[str, dict[str, float]]:
    """Return the importances for both accuracies, from the proposals that did not depend on results.

    Where those are fewer than `LEAST`, from all sound trials.
    """
    share = random_share(table)
    if share.num_rows < LEAST:
        share = table.filter(feasible(table))
    return importances(share.to_pylist(), FRONT)


def _study_of(rows: Sequence[Mapping[str, Any]], targets: Sequence[float]) -> optuna.Study:
    distributions = _distributions(rows)
    # the notice of a new in-memory study is no news to anybody
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
    """Return a distribution for each column that every row has and that varies."""
    found: dict[str, BaseDistribution] = {}
    methods = sorted({row["method"] for row in rows})
    if len(methods) > 1:
        found["method"] = CategoricalDistribution(methods)
    for name in rows[0]:
        if not name.startswith("param.") and name != "train_epsilon":
            continue
        column = [float(row[name]) for row in rows if row.get(name) is not None]
        if len(column) < len(rows) or len(set(column)) < 2:
            continue
        low, high = min(column), max(column)
        found[name] = FloatDistribution(low, high, log=low > 0 and high > 100 * low)
    return found
