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

from analysis.fronts.front import feasible
from analysis.fronts.objectives import FRONT, values
from analysis.statistics.association import random_share
from analysis.statistics.importance import LEAST, MethodImportance

MOST = 160
"""Most trials that enter, evenly spread by number: the trees' cost grows with them, their answer hardly changes."""

MOST_WITHIN = 60
"""Most trials of one method that enter what matters within it: there is a forest for each method and objective."""

TREES = 32
"""Trees of a forest."""

OF = (*FRONT, "val_lipschitz_scale_free_log10")
"""Objectives whose importances reports and figures show, whatever a study's own are."""

_SEED = 0


def objectives_shown(study_dirs: Iterable[Path], /) -> tuple[str, ...]:
    """Return the objectives whose importances are shown: those of `OF`, then what else the studies' configs search."""
    from study.directory.layout import CONFIG_FILE, open_config

    homes = [home for home in study_dirs if (home / CONFIG_FILE).is_file()]
    return tuple(dict.fromkeys([*OF, *(name for home in homes for name in open_config(home).search.objectives)]))


def importances(
    rows: Sequence[Mapping[str, Any]], objectives: Sequence[str], /, *, most: int = MOST
) -> dict[str, dict[str, float]]:
    """Return by objective, and by hyperparameter, its main effect's share of the variance a forest predicts (fANOVA).

    What hyperparameters do only together is in nobody's share, so shares add up to less than 1. The forest fits noise
    as well: a share is no evidence of an effect.

    Args:
        rows: Completed, unflagged result rows; best of those whose proposals did not depend on results.
        objectives: Names of objectives.
        most: Most rows that enter, evenly spread.

    Returns:
        Largest first; `method` counts as one hyperparameter, those that only some methods have are left out. An
        objective with fewer than `LEAST` measured rows, or one that does not vary, is missing; so is every one where
        no hyperparameter varies.
    """
    chosen = [rows[at] for at in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int))]
    found = {}
    for name in objectives:
        known = [(row, float(values(row, [name])[0])) for row in chosen]
        known = [(row, value) for row, value in known if math.isfinite(value)]
        if len(known) < LEAST or len({value for _, value in known}) < 2:
            continue
        study = _study_of([row for row, _ in known], [value for _, value in known])
        if not study.trials[0].distributions:
            continue
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=_SEED)
        with warnings.catch_warnings():
            # raw shares are marked experimental; normalised ones would always add up to 1
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
        found[name] = dict(shares)
    return found


def importance_of(table: Any, objectives: Sequence[str] = OF, /) -> tuple[dict[str, dict[str, float]], str]:
    """Return the importances for each objective, and which trials they rest on, in words.

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
    return importances(chosen.to_pylist(), objectives), words


def importance_within(table: Any, objectives: Sequence[str] = OF, /) -> list[MethodImportance]:
    """Return what matters within each method, where its strength and training radius count too, methods sorted.

    Of each method the proposals that did not depend on results; where they are fewer than `LEAST`, all its sound
    trials; where those are fewer too, no shares but their number.
    """
    share, sound = random_share(table).to_pylist(), table.filter(feasible(table)).to_pylist()
    found = []
    for method in sorted(set(table["method"].to_pylist())):
        mine = [row for row in share if row["method"] == method]
        independent = len(mine) >= LEAST
        rows = mine if independent else [row for row in sound if row["method"] == method]
        enough = len(rows) >= LEAST
        found.append(
            MethodImportance(
                method=method,
                trials=min(len(rows), MOST_WITHIN) if enough else len(rows),
                independent=independent,
                shares=importances(rows, objectives, most=MOST_WITHIN) if enough else {},
            )
        )
    return found


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
