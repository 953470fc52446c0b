"""Accuracy against the attack's radius and distances to adversarial examples, of front members."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.files import unlinked
from study.directory.layout import member_folder

if TYPE_CHECKING:
    from analysis.statistics.networks.minimum_distances import MemberDistances
    from analysis.statistics.networks.radius_curves import Curve

CURVE = "accuracy_against_epsilon.csv"

MOST = 10
"""Most front members in one figure, spread along the front."""


def write_curve(path: Path, curve: Curve, /) -> None:
    """Write one curve as CSV."""
    from analysis.plots.networks.radii import HEADINGS, curve_rows
    from analysis.tables.text_table import csv_text

    unlinked(path).write_text(csv_text(HEADINGS, curve_rows([curve])), encoding="utf-8")


def front_curves(table: Any, study_dir: Path, /) -> list[Curve]:
    """Return a curve for each of at most `MOST` front members: the measured one, or else the two points of its row.

    Rows of several studies always get the two points: their trials' ids do not tell which folder holds a curve.
    """
    from analysis.fronts.front import front_of, spread_along
    from analysis.fronts.objectives import FRONT, values
    from analysis.statistics.networks.radius_curves import curve_of

    front = front_of(table)
    if not front.num_rows:
        return []
    chosen = front.take(spread_along(values(front, FRONT), cap=MOST)).to_pylist()
    if len(set(table["study"].to_pylist())) > 1:
        return [curve_of(row) for row in chosen]
    return [_read(member_folder(study_dir, row["trial_id"]) / CURVE) or curve_of(row) for row in chosen]


def front_distances(table: Any, study_dir: Path, /) -> list[MemberDistances]:
    """Return the distances of at most `MOST` of the front's members that were measured; none of several studies."""
    from analysis.fronts.front import front_of, spread_along
    from analysis.fronts.objectives import FRONT, values
    from analysis.statistics.networks.minimum_distances import read_distances

    if len(set(table["study"].to_pylist())) > 1:
        return []
    front = front_of(table)
    members = read_distances(study_dir, trials=front["trial_id"].to_pylist())
    found = {one.trial_id: one for one in members if one.study == table["study"][0].as_py()}
    if not found:
        return []
    measured = front.take([at for at, trial in enumerate(front["trial_id"].to_pylist()) if trial in found])
    chosen = measured.take(spread_along(values(measured, FRONT), cap=MOST))
    return [found[trial] for trial in chosen["trial_id"].to_pylist()]


def _read(path: Path) -> Curve | None:
    from analysis.statistics.networks.radius_curves import Curve

    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return None
    first = rows[0]
    return Curve(
        **{name: first[name] for name in ("trial_id", "method", "split", "attack", "norm")},
        examples=int(first["examples"]),
        radii=tuple(float(row["epsilon"]) for row in rows),
        accuracies=tuple(float(row["robust_accuracy"]) for row in rows),
    )
