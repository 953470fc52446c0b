"""The wording of radii, threat models, attacks, counts and hyperparameters in tables and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.data.results import Table
from analysis.fronts.objectives import FRONT, completed_unflagged, infeasible, missed_constraints, values

SHARED_PARAMETERS = ("dropout", "lr", "weight_decay", "batch_size", "epochs", "ema", "awp")
"""Hyperparameters of every method; the other `param.*` columns belong to one method."""

LOWER_BOUND = "empirical local Lipschitz, lower bound"
"""Name of every number from the Lipschitz estimator."""

L_INF, L_2 = "\u2113∞", "\u21132"
"""The norms in texts; figures set the subscript."""

_ATTACKS = {"pgd": "PGD", "fgsm": "FGSM", "apgd_t": "APGD-T", "reachable_targets": "reachable targets"}

NORMS = {"linf": L_INF, "l2": L_2}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The number of trials in a table, and of those that cannot be on a front, each counted once.

    Args:
        trials: All.
        failed: Without a result.
        stopped_early: By the scheduler.
        flagged: Completed with flags.
        infeasible: Completed without flags, but missing a constraint of their study.
        unmeasured: Completed without flags and meeting all constraints, but without both accuracies.
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
    """Count the trials of a table, and those that cannot be on a front by reason; see `Counts`."""
    statuses, unflagged, against = table["status"].to_pylist(), completed_unflagged(table), infeasible(table)
    return Counts(
        trials=len(statuses),
        failed=statuses.count("failed"),
        stopped_early=statuses.count("stopped_early"),
        flagged=statuses.count("completed") - int(unflagged.sum()),
        infeasible=int(against.sum()),
        unmeasured=int((unflagged & ~against & np.isnan(values(table, FRONT)).any(axis=1)).sum()),
    )


def constraints_missed(table: Table, /) -> str:
    """Return the constraints that infeasible trials miss, "A or B"; empty if none is infeasible."""
    rows = table.filter(infeasible(table)).to_pylist()
    return " or ".join(dict.fromkeys(missed for row in rows for missed in missed_constraints(row)))


def why_no_front(table: Table, /) -> str:
    """Return as a clause why a table has no front."""
    number = count(table).infeasible
    if not number:
        return "no trial completed without flags and with both accuracies measured"
    trials = "1 trial" if number == 1 else f"{number} trials"
    return (
        f"{trials} completed without flags but missed {constraints_missed(table)}, and no other completed without "
        "flags and with both accuracies measured"
    )


def radius(epsilon: float, /) -> str:
    """Return a radius as text: `8/255` for whole pixel steps, else a short decimal."""
    if len(f"{epsilon:.12g}") <= 5:
        return f"{epsilon:g}"
    steps = epsilon * 255
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{epsilon:.4g}"


def measured_by(table: Table, /) -> str:
    """Return attack, effort, norm and radius in one phrase, "PGD, 10 steps, 1 restart, norm, ε = 0.1"."""
    return ", ".join(part for part in (attack_effort(table), threat_model(table)) if part)


def attack_effort(table: Table, /) -> str:
    """Return the attack and its effort, "PGD, 10 steps, 1 restart"."""
    parts = [
        _each(table, "attack", shown_attack),
        _each(table, "steps", lambda steps: f"{steps} step{'s' * (steps != 1)}"),
        _each(table, "restarts", lambda restarts: f"{restarts} restart{'s' * (restarts != 1)}"),
    ]
    return ", ".join(part for part in parts if part)


def threat_model(table: Table, /) -> str:
    """Return norm and radius, "norm, ε = 0.1"."""
    parts = [_each(table, "norm", lambda norm: NORMS.get(norm, norm)), radius_phrase(table)]
    return ", ".join(part for part in parts if part)


def lipschitz_effort(table: Table, /) -> str:
    """Return on how many examples Lipschitzness was estimated, "Lipschitz of ≤ 200 examples per split"."""
    return _each(table, "lipschitz_examples", lambda examples: f"Lipschitz of ≤ {examples} examples per split")


def shown_attack(attack: str, /) -> str:
    """Return an attack's name as figures and tables show it, "PGD"."""
    return _ATTACKS.get(attack, attack)


def attack_name(attack: str, steps: int, /) -> str:
    """Return an attack and its steps in one word, "PGD-10"."""
    return f"{shown_attack(attack)}-{steps}"


def attack_phrase(table: Table, /) -> str:
    """Return attack, norm and radius, short enough for the axis of a small panel, "PGD-10, norm, ε = 0.1"."""
    attacks = {*zip(table["attack"].to_pylist(), table["steps"].to_pylist(), strict=True)}
    parts = [
        " | ".join(sorted(attack_name(*each) for each in attacks)),
        _each(table, "norm", lambda norm: NORMS.get(norm, norm)),
        radius_phrase(table),
    ]
    return ", ".join(part for part in parts if part)


def radius_phrase(table: Table, /) -> str:
    """Return "ε = 0.1", or "ε = 0.1 | 0.2" for a mixed table."""
    radii = _each(table, "eval_epsilon", radius)
    return f"ε = {radii}" if radii else ""


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
    """Name the flagged trials, which are never on the front; empty for none."""
    rows = table.select(["trial_id", "flags"]).to_pylist()
    named = [f"{row['trial_id']} ({', '.join(row['flags'])})" for row in rows if row["flags"]]
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return f"flagged, never on the front: {', '.join(named[:most])}{more}" if named else ""


def own_parameters(row: Mapping[str, Any], /) -> str:
    """Return the hyperparameters specific to the row's method, "beta 6", or an empty string."""
    own = {name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")}
    numbers = [
        f"{name} {value:.4g}" for name, value in own.items() if value is not None and name not in SHARED_PARAMETERS
    ]
    options = json.loads(row.get("options") or "{}")
    return ", ".join([*numbers, *(f"{name} {value}" for name, value in options.items())])


def _each(table: Table, column: str, text_of: Any, *, most: int = 5) -> str:
    distinct = list(dict.fromkeys(table[column].drop_null().to_pylist()))
    return (
        " | ".join(text_of(value) for value in distinct)
        if len(distinct) <= most
        else f"{len(distinct)} values of {column}"
    )
