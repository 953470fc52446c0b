"""Everything that a study's folder holds on its chosen trials on test: who they are, their values, their new seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.results import Table, read_evaluations, read_examples, read_results
from analysis.data.schema import RESULT, ResultsError
from analysis.heldout.confirmation import KINDS, ConfirmedMember, confirmed, mean_curse
from analysis.heldout.measurements import alike, examples_file, like_for_like, lipschitz_row, on_images_of, strongest
from analysis.statistics.intervals import Estimate, mean_interval, outcomes

CHOICE_FILE = "chosen.json"
"""Names the front's members as validation chose them, fixed at the first use of test data."""

CONFIRM_FOLDER = "confirm"
"""Where the trials that were trained again with new seeds lie."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class HeldoutResults:
    """What is known on test.

    Args:
        members: The trials measured there, chosen members of the front first, in their order.
        chosen: Ids of those that validation chose as the front; the others were named by a user.
        evaluations: Every evaluation row, of the study and of the new seeds: each one use of test data.
        curse: Validation minus test averaged over the chosen members' own checkpoints, by kind; empty without them.
        averaged: Over how many of them.
        waiting: Ids of the chosen front that were not measured.
        same_images: Of trials whose strongest attack was measured on other images than the like-for-like one: what
            the latter leaves of those, by id; None where that is not known.
        lipschitz: The members' mean local Lipschitz estimates with their intervals, by id; those whose per-example
            values are there.
    """

    members: tuple[ConfirmedMember, ...]
    chosen: tuple[str, ...]
    evaluations: tuple[Row, ...]
    curse: Mapping[str, Estimate]
    averaged: int = 0
    waiting: tuple[str, ...] = ()
    same_images: Mapping[str, float | None] = field(default_factory=dict)
    lipschitz: Mapping[str, Estimate] = field(default_factory=dict)


def read_choice(study_dir: str | Path, /) -> tuple[str, ...]:
    """Return the ids of the front that validation chose, empty before the first use of test data.

    Raises:
        ResultsError: The file is damaged.
    """
    path = Path(study_dir) / CHOICE_FILE
    if not path.exists():
        return ()
    try:
        return tuple(map(str, json.loads(path.read_text(encoding="utf-8"))["members"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path} must hold `members` as JSON ({type(error).__name__}); mend or remove it") from error


def read_uses(study_dir: str | Path, /) -> list[Row]:
    """Return every evaluation row of a study and of its new seeds; see `analysis.heldout.measurements.uses_lines`.

    Raises:
        ResultsError: Damaged files, or of another version.
    """
    homes = [Path(study_dir), Path(study_dir) / CONFIRM_FOLDER]
    return [row for home in homes if home.is_dir() for row in read_evaluations(home).to_pylist()]


def read_on_test(
    study_dir: str | Path, table: Table, /, *, trials: Sequence[str] | None = None
) -> HeldoutResults | None:
    """Return what a study's folder holds on test, None where nothing was measured there.

    Args:
        study_dir: The study's folder.
        table: Its result rows.
        trials: Ids of the trials to show; all that were measured when None.

    Raises:
        ResultsError: Damaged files, or of another version.
    """
    home = Path(study_dir)
    again = home / CONFIRM_FOLDER
    evaluations = read_uses(home)
    if not evaluations:
        return None
    chosen = read_choice(home)
    replicas = read_results(again).to_pylist() if (again / RESULT.folder).is_dir() else []
    rows = {row["trial_id"]: row for row in table.to_pylist()}
    parents = {row["trial_id"]: row["replicate_of"] for row in replicas}
    numbers = {parents[row["trial_id"]] for row in evaluations if row["trial_id"] in parents}
    measured = {row["trial_id"] for row in evaluations} | {i for i, row in rows.items() if row["number"] in numbers}
    shown = [trial for trial in dict.fromkeys([*chosen, *sorted(measured)]) if trial in measured & set(rows)]
    if trials is not None:
        shown = [trial for trial in shown if trial in trials]
    found = confirmed(
        [rows[trial] for trial in shown],
        evaluations,
        replicas=replicas,
        outcomes=_outcomes(again, replicas, evaluations),
    )
    same = _on_most([one for one in found if one.result["trial_id"] in chosen])
    curse = _average(home, same)
    return HeldoutResults(
        members=tuple(found),
        chosen=tuple(one.result["trial_id"] for one in found if one.result["trial_id"] in chosen),
        evaluations=tuple(evaluations),
        curse=curse,
        averaged=len(same) if curse else 0,
        waiting=tuple(trial for trial in chosen if trial not in measured),
        same_images=_same_images(home, [one.result for one in found], evaluations),
        lipschitz=_lipschitz(home, [one.result for one in found], evaluations),
    )


def together(known: Mapping[str, HeldoutResults], /) -> HeldoutResults:
    """Return what several studies hold on test as one, by their labels; without a curse, which is within one study.

    Args:
        known: By the label that stands before the trials' ids, as `analysis.data.combine.relabelled` has it.
    """

    def renamed(row: Row, label: str) -> Row:
        return {**row, "study": label, "trial_id": f"{label}/{row['trial_id']}"}

    def ids(name: str) -> tuple[str, ...]:
        return tuple(f"{label}/{trial}" for label, one in known.items() for trial in getattr(one, name))

    def by_id(name: str) -> dict[str, Any]:
        return {
            f"{label}/{trial}": found for label, one in known.items() for trial, found in getattr(one, name).items()
        }

    members = [replace(one, result=renamed(one.result, label)) for label, each in known.items() for one in each.members]
    return HeldoutResults(
        members=tuple(members),
        chosen=ids("chosen"),
        evaluations=tuple(renamed(row, label) for label, one in known.items() for row in one.evaluations),
        curse={},
        waiting=ids("waiting"),
        same_images=by_id("same_images"),
        lipschitz=by_id("lipschitz"),
    )


def curse_lines(found: HeldoutResults, /) -> list[str]:
    """Return the winner's curse averaged over members in words; empty where it is not known."""
    if not found.curse:
        return []
    said = ", ".join(f"{kind} {one.signed()}" for kind, one in found.curse.items())
    over = f"mean of {found.averaged} members" if found.averaged != 1 else "of the one member"
    return [f"winner's curse, {over}, validation - test of the same checkpoints: {said} (95 %, of the examples)"]


def _same_images(home: Path, results: Sequence[Row], evaluations: Sequence[Row]) -> dict[str, float | None]:
    found = {}
    for result in results:
        same, strong = like_for_like(result, evaluations), strongest(result, evaluations)
        if same is not None and strong is not None and same["examples"] != strong["examples"]:
            found[result["trial_id"]] = on_images_of(home, same, strong)
    return found


def _lipschitz(home: Path, results: Sequence[Row], evaluations: Sequence[Row]) -> dict[str, Estimate]:
    found = {}
    for result in results:
        row = lipschitz_row(result, evaluations)
        if row is None:
            continue
        try:
            values = read_examples(examples_file(home, row["evaluation"]))["lipschitz"].drop_null().to_numpy()
        except (ResultsError, OSError):
            continue
        if len(values) > 1:
            low, high = mean_interval(values)
            found[result["trial_id"]] = Estimate(value=float(values.mean()), low=float(low), high=float(high))
    return found


def _outcomes(folder: Path, replicas: Sequence[Row], evaluations: Sequence[Row]) -> dict[str, dict[str, np.ndarray]]:
    """Return the new seeds' outcomes on test by the names of their measurements and kind."""
    names = [row["evaluation"] for replica in replicas for row in alike(replica, evaluations)]
    files = {name: file for name in names if (file := examples_file(folder, name)).exists()}
    tables = {name: read_examples(file) for name, file in files.items()}
    return {
        name: {kind: table[f"{kind}_correct"].to_numpy(zero_copy_only=False) for kind in KINDS}
        for name, table in tables.items()
    }


def _on_most(members: Sequence[ConfirmedMember]) -> list[tuple[ConfirmedMember, Row]]:
    """Return the members measured on test as on validation, with that measurement, on one and the most examples."""
    known = [(one, one.test) for one in members if one.test is not None]
    most = max((test["examples"] for _, test in known), default=0)
    return [(one, test) for one, test in known if test["examples"] == most]


def _average(home: Path, members: Sequence[tuple[ConfirmedMember, Row]]) -> dict[str, Estimate]:
    """Return the mean winner's curse by kind, from the members' outcomes; empty where those are lost."""
    ids = [one.result["trial_id"] for one, _ in members]
    files = [examples_file(home, test["evaluation"]) for _, test in members]
    if not ids or not all(file.exists() for file in files):
        return {}
    try:
        val = outcomes(read_examples(home, trials=ids), split="val")
    except ResultsError:
        return {}
    if set(val.trials) != set(ids):
        return {}
    tests = [read_examples(file) for file in files]
    return {
        kind: mean_curse(part, np.stack([table[f"{kind}_correct"].to_numpy(zero_copy_only=False) for table in tests]))
        for kind, part in (("clean", val.clean), ("robust", val.robust))
    }
