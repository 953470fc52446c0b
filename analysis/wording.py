"""How tables and figures word what was measured: radii, threat model, attack, counts, hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.data.results import Table
from analysis.fronts.objectives import FRONT, infeasible, missed_constraints, values

SHARED_PARAMETERS = ("dropout", "lr", "weight_decay", "batch_size", "epochs", "ema")
"""Hyperparameters that every method has; the other `param.*` columns are a method's own."""

LOWER_BOUND = "empirical local Lipschitz, lower bound"
"""What every number from the Lipschitz estimator is called."""

L_INF, L_2 = "\u2113∞", "\u21132"
"""The norms as texts write them; figures set the subscript."""

NORMS = {"linf": L_INF, "l2": L_2}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many trials a table holds, and how many of them count for nothing, each of these once.

    Args:
        trials: All.
        failed: Without a result.
        stopped_early: By the scheduler.
        flagged: Completed with flags.
        infeasible: Completed without flags, but against a constraint of their study.
        unmeasured: Completed without flags and against no constraint, but without one of both accuracies.
    """

    trials: int
    failed: int
    stopped_early: int
    flagged: int
    infeasible: int
    unmeasured: int

    def __str__(self) -> str:
        parts = [f"{self.failed} failed", f"{self.flagged} flagged"]
        parts += [f"{self.stopped_early} stopped early"] if self.stopped_early else []
        parts += [f"{self.infeasible} infeasible"] if self.infeasible else []
        parts += [f"{self.unmeasured} not measured"] if self.unmeasured else []
        return f"n = {self.trials} trial{'s' * (self.trials != 1)} ({', '.join(parts)})"


def count(table: Table, /) -> Counts:
    """Return how many trials there are, and how many of them count for nothing and why; see `Counts`."""
    statuses = table["status"].to_pylist()
    flagged = [
        bool(flags) and status == "completed"
        for flags, status in zip(table["flags"].to_pylist(), statuses, strict=True)
    ]
    missed = infeasible(table)
    sound = np.asarray([status == "completed" for status in statuses], dtype=bool) & ~np.asarray(flagged, dtype=bool)
    return Counts(
        trials=len(statuses),
        failed=statuses.count("failed"),
        stopped_early=statuses.count("stopped_early"),
        flagged=sum(flagged),
        infeasible=int(missed.sum()),
        unmeasured=int((sound & ~missed & np.isnan(values(table, FRONT)).any(axis=1)).sum()),
    )


def constraints_missed(table: Table, /) -> str:
    """Return the constraints that the infeasible trials miss, "A or B"; empty where none is infeasible."""
    rows = table.filter(infeasible(table)).to_pylist()
    return " or ".join(dict.fromkeys(missed for row in rows for missed in missed_constraints(row)))


def why_no_front(table: Table, /) -> str:
    """Return why a table without a front has none, as a clause."""
    found = count(table).infeasible
    if not found:
        return "no trial completed without flags and with both accuracies measured"
    said = "1 trial" if found == 1 else f"{found} trials"
    return (
        f"{said} completed without flags but against {constraints_missed(table)}, and no other completed without "
        "flags and with both accuracies measured"
    )


def radius(epsilon: float, /) -> str:
    """Return a radius as people write it: `8/255` for whole pixel steps, else a short decimal."""
    if len(f"{epsilon:.12g}") <= 5:
        return f"{epsilon:g}"
    steps = epsilon * 255
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{epsilon:.4g}"


def measured_by(table: Table, /) -> str:
    """Return attack, effort, norm and radius in one phrase, "PGD, 10 steps, 1 restart, norm, ε = 0.1"."""
    parts = [
        _each(table, "attack", lambda attack: attack.upper() if attack == "pgd" else attack),
        _each(table, "steps", lambda steps: f"{steps} step{'s' * (steps != 1)}"),
        _each(table, "restarts", lambda restarts: f"{restarts} restart{'s' * (restarts != 1)}"),
        _each(table, "norm", lambda norm: NORMS.get(norm, norm)),
        radius_phrase(table),
    ]
    return ", ".join(part for part in parts if part)


def attack_name(attack: str, steps: int, /) -> str:
    """Return an attack and its steps in one word, "PGD-10"."""
    return f"{attack.upper() if attack == 'pgd' else attack}-{steps}"


def attack_phrase(table: Table, /) -> str:
    """Return attack, norm and radius as short as an axis of a small panel takes it, "PGD-10, norm, ε = 0.1"."""
    attacks = {*zip(table["attack"].to_pylist(), table["steps"].to_pylist(), strict=True)}
    parts = [
        " | ".join(sorted(attack_name(*each) for each in attacks)),
        _each(table, "norm", lambda norm: NORMS.get(norm, norm)),
        radius_phrase(table),
    ]
    return ", ".join(part for part in parts if part)


def radius_phrase(table: Table, /) -> str:
    """Return "ε = 0.1", or "ε = 0.1 | 0.2" for a mixed table."""
    known = _each(table, "eval_epsilon", radius)
    return f"ε = {known}" if known else ""


def provenance(table: Table, /) -> str:
    """Return study, data set, counts and examples in one phrase, the small print of figures and tables."""
    parts = [
        _each(table, "study", lambda study: f"study {study}", most=3),
        _each(table, "dataset", str),
        str(count(table)),
        _each(table, "examples", lambda examples: f"≤ {examples} examples per split"),
    ]
    return " · ".join(part for part in parts if part)


def flagged(table: Table, /, *, most: int = 5) -> str:
    """Return which measured trials are flagged, and so never on the front; an empty string for none."""
    rows = table.select(["trial_id", "flags"]).to_pylist()
    named = [f"{row['trial_id']} ({', '.join(row['flags'])})" for row in rows if row["flags"]]
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return f"flagged, never on the front: {', '.join(named[:most])}{more}" if named else ""


def own_parameters(row: Mapping[str, Any], /) -> str:
    """Return the hyperparameters that only the row's method has, "beta 6", or an empty string."""
    own = {name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")}
    said = [f"{name} {value:.4g}" for name, value in own.items() if value is not None and name not in SHARED_PARAMETERS]
    options = json.loads(row.get("options") or "{}")
    return ", ".join([*said, *(f"{name} {value}" for name, value in options.items())])


def _each(table: Table, column: str, say: Any, *, most: int = 5) -> str:
    known = list(dict.fromkeys(table[column].drop_null().to_pylist()))
    return " | ".join(say(value) for value in known) if len(known) <= most else f"{len(known)} values of {column}"
