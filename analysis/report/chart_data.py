"""What the report's charts draw, as columns of plain numbers, thinned where more points would only cost time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import feasible, on_front, on_infeasible_front
from analysis.fronts.growth import hypervolume_growth
from analysis.fronts.objectives import FRONT, missed_constraints, objective, values
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.networks.radii import reach_said
from analysis.plots.trials.front_view import pareto_view
from analysis.statistics.association import INDEPENDENT, measure
from analysis.statistics.front_posterior import FrontPosterior
from analysis.statistics.hyperparameters import varying_settings
from analysis.statistics.radius_curves import Curve
from analysis.statistics.theorem_radius import TheoremRadius
from analysis.wording import attack_phrase, measured_by, own_parameters, radius_phrase

THINNED = 3000
"""Most dominated trials that the three-dimensional and the parallel-coordinates chart draw."""

CURVE = 500
"""Most points of the hypervolume's curve."""

LIPSCHITZ = "val_lipschitz_scale_free_log10"
_DIGITS = 5


def chart_data(
    table: Table,
    /,
    *,
    belief: FrontPosterior | None = None,
    reference: Mapping[str, float] | None = None,
    curves: Sequence[Curve] = (),
    reach: TheoremRadius | None = None,
    devices: float = 1.0,
    unit: str = "worker-hours",
) -> dict[str, Any]:
    """Return the charts' data, ready for JSON: NaN is None, numbers have five digits.

    Args:
        table: Result rows.
        belief: Probabilities to be on the front.
        reference: Reference values of the hypervolume, by objective.
        curves: Accuracy against the radius, of front members.
        reach: Of the data set, where its separation is known.
        devices: What a trial holds while it runs, so that hours count `unit`.
        unit: "worker-hours", or "GPU-hours".
    """
    view = pareto_view(table)
    drawn = np.flatnonzero(np.isfinite(values(table, FRONT)).all(axis=1))
    kind = np.where(on_front(table), 0, np.where(feasible(table), 1, 2))[drawn]
    methods = list(styles_for(table["method"].to_pylist()).items())
    place = {method: index for index, (method, _) in enumerate(methods)}
    rows = table.take(drawn).to_pylist()
    return {
        "methods": [_look(method, style) for method, style in methods],
        "trials": {
            "k": kind.tolist(),
            "a": on_infeasible_front(table)[drawn].astype(int).tolist(),
            **_trials(table, drawn, rows, place, belief),
        },
        "thin": _thin(kind),
        "params": {
            name.removeprefix("param."): _numbers([row.get(name) for row in rows])
            for name in ("train_epsilon", *(name for name in table.column_names if name.startswith("param.")))
            if any(row.get(name) is not None for row in rows)
        },
        "view": [_numbers(view.limits(axis)) for axis in (0, 1)],
        "axes": _axes(table, curves),
        "settings": [
            {
                "name": each.name,
                "label": each.label,
                "short": each.label.partition(" (")[0],
                "values": _numbers(each.values[drawn]),
                "log": each.log,
            }
            for each in varying_settings(table)
        ],
        "curves": [_curve(curve, place) for curve in curves if curve.method in place],
        "epsilon": max(table["eval_epsilon"].to_pylist(), default=None),
        "reach": reach and {"r": reach.radius, "text": reach_said(reach).replace("\n", " ")},
        "growth": {"unit": unit, **_growth(table, reference, devices)},
    }


def _look(method: str, style: MethodStyle) -> dict[str, str]:
    return {
        "name": method,
        "label": style.label,
        "colour": style.colour,
        "symbol": style.symbol,
        "solid": style.in_space,
        "hollow": style.hollow_in_space,
    }


def _trials(
    table: Table,
    drawn: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
    place: Mapping[str, int],
    belief: FrontPosterior | None,
) -> dict[str, list[Any]]:
    """Return a column for each thing the charts tell of the drawn trials, rows being theirs."""
    chance = {} if belief is None else dict(zip(belief.trials, belief.probability.tolist(), strict=True))
    points = values(table, [*FRONT, LIPSCHITZ])[drawn]
    return {
        "id": [row["trial_id"] for row in rows],
        "m": [place[row["method"]] for row in rows],
        **{name: _numbers(points[:, axis]) for axis, name in enumerate("xyz")},
        "lip": _numbers([row["val_lipschitz_mean"] for row in rows]),
        "why": [_doubt(row) for row in rows],
        "own": [own_parameters(row) for row in rows],
        "p": _numbers([chance.get(row["trial_id"]) for row in rows]),
        "r": [int(row["proposal"] in INDEPENDENT) for row in rows],
        **{short: _numbers(measure(table, name)[drawn]) for short, name in _MEASURES.items()},
    }


_MEASURES = {
    "sf": "val_lipschitz_scale_free_mean",
    "cr": "clean_minus_robust",
    "cg": "clean_gap",
    "rg": "robust_gap",
    "bx": "best_val_clean_accuracy",
    "by": "best_val_robust_accuracy",
}
"""What further charts draw, by the short name that the page's data has."""


def _axes(table: Table, curves: Sequence[Curve]) -> dict[str, str]:
    attack, bound = attack_phrase(table), f"(lower bound, val mean, {radius_phrase(table)})"
    splits = ", ".join(dict.fromkeys(curve.split for curve in curves)) or "val"
    attacks = ", ".join(dict.fromkeys(curve.attack for curve in curves))
    return {
        "x": "clean accuracy (val)",
        "y": f"robust accuracy (val)<br>{measured_by(table)}",
        "z": f"{objective(LIPSCHITZ).label}<br>{bound}",
        "attack": attack,
        "lip": f"empirical local Lipschitz, raw<br>{bound}",
        "sf": f"empirical local Lipschitz, scale-free<br>{bound}",
        "cr": f"clean minus robust accuracy (val)<br>{attack}",
        "cg": "generalisation gap: train minus val clean accuracy",
        "rg": f"adversarial generalisation gap: train minus val<br>{attack}",
        "epsilon": "radius ε of the attack (pixel range [0, 1])",
        "curves": f"robust accuracy ({splits})<br>{attacks}",
    }


def _curve(curve: Curve, place: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": curve.trial_id,
        "m": place[curve.method],
        "radii": _numbers(curve.radii),
        "accuracies": _numbers(curve.accuracies),
        "words": f"{curve.attack} on {'' if curve.measured else 'at most '}{curve.examples} {curve.split} images",
    }


def as_json(data: Any, /) -> str:
    """Return JSON that can stand inside a script element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")


def _growth(table: Table, reference: Mapping[str, float] | None, devices: float) -> dict[str, Any]:
    grown = hypervolume_growth(table, reference=reference, devices=devices)
    step = max(1, math.ceil(len(grown.trials) / CURVE))
    chosen = np.unique([*range(0, len(grown.trials), step), max(len(grown.trials) - 1, 0)])
    chosen = chosen[chosen < len(grown.trials)]
    return {
        "trials": grown.trials[chosen].tolist(),
        "hours": _numbers(grown.hours[chosen]),
        "volume": _numbers(grown.volume[chosen]),
    }


def _thin(kind: np.ndarray) -> list[int]:
    """Return which trials the costly charts draw: all of the front, the others evenly thinned."""
    others = np.flatnonzero(kind != 0)
    step = max(1, math.ceil(len(others) / THINNED))
    return sorted([*np.flatnonzero(kind == 0).tolist(), *others[::step].tolist()])


def _doubt(row: Mapping[str, Any]) -> str:
    reasons = [] if row["status"] == "completed" else [row["status"].replace("_", " ")]
    missed = [f"infeasible: against {constraint}" for constraint in missed_constraints(row)]
    return ", ".join([*reasons, *row["flags"], *missed])


def _numbers(column: Any) -> list[float | None]:
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")
        for value in (column.tolist() if isinstance(column, np.ndarray) else column)
    ]
