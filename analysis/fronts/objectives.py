"""The objectives of a study, each declared once, and the constraints that decide which trials are feasible."""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.data.schema import RESULT, ResultsError

if TYPE_CHECKING:
    # A config that only names objectives needs no pyarrow.
    from analysis.data.results import Table

LIPSCHITZ_FLOOR = 1e-3
"""Lipschitz estimates are raised to at least this before log10: a constant network has 0."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A quantity that a search optimises or a figure shows.

    Args:
        name: Name in configs and `--objectives`.
        column: Result column of its values.
        maximise: Whether larger is better.
        label: Text for axes and tables, without the split.
        split: "val" or "test". Only val objectives may be searched over.
        unit: Unit of the transformed value.
        reference: Reference of the hypervolume, in the same unit, unless the config sets another.
        log10_floor: If set, the objective is log10 of the column's value, raised to at least this.
        asked_by: If set, the column that says how the value was sought: 0 where it was sought and nothing is proved.
    """

    name: str
    column: str
    maximise: bool
    label: str
    split: Literal["val", "test"]
    unit: str
    reference: float = 0.0
    log10_floor: float | None = None
    asked_by: str | None = None

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Return the direction as Optuna names it."""
        return "maximize" if self.maximise else "minimize"

    def transform(self, measured: Any, /) -> np.ndarray:
        """Return the objective's values for those of its column (any shape, null or NaN gives NaN)."""
        numbers = np.asarray(measured, dtype=np.float64)
        if self.log10_floor is None:
            return numbers
        # np.maximum keeps NaN, so a missing estimate never becomes the floor, the best possible value.
        return np.asarray(np.log10(np.maximum(numbers, self.log10_floor)))

    def read(self, source: Table | Mapping[str, Any], /) -> np.ndarray:
        """Return the objective's values of a result table, shape (n,), or row, shape (); null or NaN gives NaN."""
        measured = _column(source, self.column)
        if self.asked_by is not None:
            measured = np.where(np.isnan(measured) & _is_set(source, self.asked_by), 0.0, measured)
        return self.transform(measured)


def _of_split(split: Literal["val", "test"]) -> list[Objective]:
    def accuracy(kind: str) -> Objective:
        name = f"{split}_{kind}_accuracy"
        return Objective(name=name, column=name, maximise=True, label=f"{kind} accuracy", split=split, unit="fraction")

    def lipschitz(name: str, column: str, label: str, unit: str, reference: float) -> Objective:
        return Objective(
            name=f"{split}_{name}",
            column=f"{split}_{column}",
            maximise=False,
            label=f"log10 {label}",
            split=split,
            unit=f"log10 of {unit}",
            reference=reference,
            log10_floor=LIPSCHITZ_FLOOR,
        )

    return [
        accuracy("clean"),
        accuracy("robust"),
        lipschitz("lipschitz_log10", "lipschitz_mean", "empirical local Lipschitz", "logits per pixel unit", 4.0),
        lipschitz(
            "lipschitz_scale_free_log10",
            "lipschitz_scale_free_mean",
            "scale-free local Lipschitz",
            "mean margins per pixel unit",
            3.0,
        ),
    ]


CERTIFIED = Objective(
    name="val_certified_accuracy",
    column="val_certified_accuracy",
    maximise=True,
    label="certified accuracy",
    split="val",
    unit="fraction",
    asked_by="certify",
)
"""Proved by `evaluation.certify`; where that proves nothing the column is null, and the objective is 0, its worst."""

OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective for objective in (*_of_split("val"), CERTIFIED, *_of_split("test"))
}

FRONT: tuple[str, str] = ("val_clean_accuracy", "val_robust_accuracy")
"""The objectives of "the front" in every study, command and figure."""


@dataclass(frozen=True)
class Constraint:
    """A bound that a trial must meet to be on the front.

    Attributes:
        column: A validation measure: a numeric `val_` column of the result rows, or an objective's name.
        op: Which side is allowed.
        bound: Inclusive, in the unit of the column or objective.
    """

    column: str
    op: Literal[">=", "<="]
    bound: float

    def __str__(self) -> str:
        return f"{self.column} {self.op} {self.bound:g}"

    def violation(self, source: Table | Mapping[str, Any], /) -> np.ndarray:
        """Return by how much each row of a table, shape (n,), or one row, shape (), misses the bound, in its unit.

        At most 0 where the bound is met; infinite where the measure is missing or NaN.
        """
        declared = OBJECTIVES.get(self.column)
        value = declared.read(source) if declared else _column(source, self.column)
        missed = self.bound - value if self.op == ">=" else value - self.bound
        return np.where(np.isnan(missed), np.inf, missed)


def parse_constraint(text: str, /) -> Constraint:
    """Parse a constraint such as `val_clean_accuracy >= 0.9`.

    Raises:
        ValueError: Another form, a measure that is not a validation column or objective, or an impossible bound.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(\S*?[<>=≤≥]+)\s*(\S+)\s*", text)
    if match is None or match[2] not in (">=", "<="):
        got = f"the comparison {match[2]!r}" if match else repr(text)
        raise ValueError(f"a constraint must read MEASURE >= NUMBER or MEASURE <= NUMBER, got {got}")
    name, op, number = match.groups()
    valid = _constrainable()
    if name not in valid:
        close = difflib.get_close_matches(name, valid, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"a constraint on {name!r} is not known{hint}; valid: {', '.join(valid)}")
    try:
        bound = float(number)
    except ValueError:
        raise ValueError(f"a constraint's bound must be a number, got {number!r} in {text!r}") from None
    if not math.isfinite(bound):
        raise ValueError(f"a constraint's bound must be finite, got {text!r}")
    if name.endswith("_accuracy") and not 0 <= bound <= 1:
        hint = f" (did you mean {bound / 100:g}?)" if 1 < bound <= 100 else ""
        raise ValueError(f"an accuracy is a fraction in [0, 1], got {text!r}{hint}")
    return Constraint(name, ">=" if op == ">=" else "<=", bound)


def keeps_constraints(table: Table, /) -> np.ndarray:
    """Mark the rows of a table that meet their own study's constraints, shape (n,)."""
    texts = np.asarray(table["constraints"].to_pylist(), dtype=object)
    kept = np.ones(len(texts), dtype=bool)
    for text in {text for text in texts if text}:
        rows = texts == text
        for constraint in _declared(text):
            kept[rows] &= constraint.violation(table)[rows] <= 0
    return kept


def completed_unflagged(table: Table, /) -> np.ndarray:
    """Mark the rows that completed without flags, shape (n,)."""
    # list lengths, since flags as Python lists take eight times as long
    num_flags = table["flags"].combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    completed = np.asarray(table["status"].to_pylist(), dtype=object) == "completed"
    return np.asarray(completed & (num_flags == 0), dtype=bool)


def infeasible(table: Table, /) -> np.ndarray:
    """Mark the completed, unflagged rows that miss one of their own study's constraints, shape (n,)."""
    return np.asarray(completed_unflagged(table) & ~keeps_constraints(table))


def missed_constraints(row: Mapping[str, Any], /) -> list[str]:
    """Return the constraints of its own study that a result row misses, as the config writes them."""
    return [str(constraint) for constraint in _declared(row.get("constraints")) if constraint.violation(row) > 0]


def is_feasible(row: Mapping[str, Any], /) -> bool:
    """Return whether a result row may be on a front: completed, without flags, and meeting its study's constraints."""
    return row["status"] == "completed" and not row["flags"] and not missed_constraints(row)


def constraints_text(constraints: Sequence[str | Constraint], /) -> str | None:
    """Return constraints in the form of the result column `constraints`; None for none."""
    return json.dumps([str(constraint) for constraint in constraints]) if constraints else None


def _column(source: Table | Mapping[str, Any], name: str) -> np.ndarray:
    """Return a column of a table, shape (n,), or a row's value, shape (); NaN where there is none."""
    if isinstance(source, Mapping):
        return np.asarray(source.get(name), dtype=np.float64)
    if name not in source.column_names:
        return np.full(source.num_rows, np.nan)
    return np.asarray(source[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def _is_set(source: Table | Mapping[str, Any], name: str) -> np.ndarray:
    """Return where a column is not null, shape (n,) or (); everywhere in an epoch's row, which does not repeat it."""
    if isinstance(source, Mapping):
        return np.asarray(source.get(name, "unknown") is not None)
    if name not in source.column_names:
        return np.zeros(source.num_rows, dtype=bool)
    return np.asarray(source[name].is_valid().to_numpy(zero_copy_only=False))


@functools.cache
def _declared(text: str | None) -> tuple[Constraint, ...]:
    return tuple(parse_constraint(entry) for entry in json.loads(text)) if text else ()


@functools.cache
def _constrainable() -> tuple[str, ...]:
    columns = [column.name for column in RESULT.columns if column.type == "float64" and column.name.startswith("val_")]
    derived = [name for name, entry in OBJECTIVES.items() if entry.split == "val" and name not in columns]
    return (*columns, *derived)


def objective(name: str, /) -> Objective:
    """Return the objective called `name`.

    Raises:
        ValueError: Unknown name; the message lists the valid ones and suggests the closest.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    close = difflib.get_close_matches(name, OBJECTIVES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(f"unknown objective {name!r}{hint}; valid: {', '.join(OBJECTIVES)}")


def values(source: Table | Mapping[str, Any], names: Sequence[str], /) -> np.ndarray:
    """Return the objectives' values of a result table, shape (n, k), or of one result row, shape (k,).

    Nulls become NaN.

    Raises:
        ValueError: No objective, an unknown one, or one whose column is missing.

    Examples:
        >>> front = rs.front_of(rs.read_studies([study_dir]))
        >>> rs.values(front, rs.FRONT).tolist()
        [[0.98, 0.1], [0.9, 0.6], [0.8, 0.7]]
    """
    if not names:
        raise ValueError("at least one objective is needed, got none")
    objectives = [objective(name) for name in names]
    present = source.keys() if isinstance(source, Mapping) else source.column_names
    for each in objectives:
        if each.column not in present:
            raise ResultsError(
                f"objective {each.name!r} needs the column {each.column!r}, which is missing from these results"
            )
    return np.stack([each.read(source) for each in objectives], axis=-1)


def directions(names: Sequence[str], /) -> list[bool]:
    """Return for each objective whether it is maximised.

    Examples:
        >>> rs.directions(["val_robust_accuracy", "val_lipschitz_log10"])
        [True, False]
    """
    return [objective(name).maximise for name in names]
