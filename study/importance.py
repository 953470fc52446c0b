"""How much each hyperparameter matters for each objective, by Optuna's evaluator, computed from result rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from analysis.association import random_share
from analysis.fronts import feasible
from analysis.objectives import FRONT, values

LEAST = 20
"""Fewest trials from which an importance is computed."""

MOST = 160
"""Most trials that enter, evenly spread by number: the trees' cost grows with them, their answer hardly changes."""

OF = (*FRONT, "val_lipschitz_scale_free_log10")
"""Objectives whose importances reports and figures show."""

_SEED = 0


def importances(rows: Sequence[Mapping[str, Any]], objectives: Sequence[str], /) -> dict[str, dict[str, float]]:
    """Return by objective, and by hyperparameter, its main effect's share of the variance a forest predicts (fANOVA).

    What hyperparameters do only together is in nobody's share, so shares add up to less than 1. The forest fits noise
    as well: a share is no evidence of an effect.

    Args:
        rows: Completed, unflagged result rows; best of those whose proposals did not depend on results.
        objectives: Names of objectives.

    Returns:
        Largest first; `method` counts as one hyperparameter, those that only some methods have are left out. An
        objective with fewer than `LEAST` measured rows, or one that does not vary, is missing.
    """
    chosen = [rows[at] for at in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().astype(int))]
    found = {}
    for name in objectives:
        known = [(row, float(values(row, [name])[0])) for row in chosen]
        known = [(row, value) for row, value in known if math.isfinite(value)]
        if len(known) < LEAST or len({value for _, value in known}) < 2:
            continue
        study = _study_of([row for row, _ in known], [value for _, value in known])
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=_SEED)
        with warnings.catch_warnings():
            # raw shares are marked experimental; normalised ones would always add up to 1
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
        found[name] = dict(shares)
    return found


def importance_of(table: Any, /) -> tuple[dict[str, dict[str, float]], str]:
    """Return the importances for both accuracies and scale-free Lipschitzness, and which trials they rest on, in words.

    Those are the proposals that did not depend on results; where they are fewer than `LEAST`, all sound trials.
    """
    share = random_share(table)
    independent = share.num_rows >= LEAST
    chosen = share if independent else table.filter(feasible(table))
    count = min(chosen.num_rows, MOST)
    if independent:
        words = f"n = {count} trials whose proposals did not follow results"
    else:
        words = (
            f"n = {count} sound trials, a sampler's own among them (only {share.num_rows} did not follow results), so "
            "shares also show where it looked"
        )
    return importances(chosen.to_pylist(), OF), words


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
