"""Read a study's results on test: the chosen trials, their values and their new seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.results import Table, examples_file, read_evaluations, read_examples, read_results
from analysis.data.schema import RESULT, ResultsError
from analysis.heldout.confirmation import KINDS, ConfirmedMember, confirmed, mean_curse
from analysis.heldout.measurements import alike, like_for_like, lipschitz_row, on_images_of, strongest
from analysis.statistics.intervals import Estimate, mean_interval, outcomes

CHOICE_FILE = "chosen.json"
"""File with the front's members as chosen on validation, fixed at the first use of test data."""

CONFIRM_FOLDER = "confirm"
"""Folder of the trials retrained with new seeds."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class HeldoutResults:
    """A study's results on test.

    Args:
        members: The trials measured on test, the chosen members of the front first, in their order.
        chosen: Ids of those chosen as the front on validation; the others were named by a user.
        evaluations: Every evaluation row, of the study and of the new seeds; each is one use of test data.
        curse: Validation minus test averaged over the chosen members' own checkpoints, by kind; empty if unknown.
        averaged: Number of members averaged.
        waiting: Ids of chosen members not measured yet.
        same_images: Robust accuracy under the like-for-like attack on the images of the strongest, by id, for trials
            where the two used different images; None if unknown.
        lipschitz: Mean local Lipschitz estimates of members with their intervals, by id, where per-example values
            exist.
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
    """Return the ids of the front chosen on validation, empty before the first use of test data.

    Raises:
        ResultsError: The file is damaged.
    """
    path = Path(study_dir) / CHOICE_FILE
    if not path.exists():
        return ()
    try:
        return tuple(map(str, json.loads(path.read_text(encoding="utf-8"))["members"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} must hold `members` as JSON ({type(error).__name__}); repair or remove it"
        ) from error


def read_uses(study_dir: str | Path, /) -> list[Row]:
    """Return all evaluation rows on test of a study and its new seeds; see `analysis.heldout.measurements.uses_lines`.

    Raises:
        ResultsError: Damaged files, or of another version.
    """
    folders = [Path(study_dir), Path(study_dir) / CONFIRM_FOLDER]
    return [row for folder in folders if folder.is_dir() for row in read_evaluations(folder).to_pylist()]


def read_on_test(
    study_dir: str | Path, table: Table, /, *, trials: Sequence[str] | None = None
) -> HeldoutResults | None:
    """Read a study's results on test, None if nothing was measured.

    Args:
        study_dir: The study's folder.
        table: Its result rows.
        trials: Ids of the trials to show; all measured ones when None.

    Raises:
        ResultsError: Damaged files, or of another version.
    """
    folder = Path(study_dir)
    confirm_folder = folder / CONFIRM_FOLDER
    evaluations = read_uses(folder)
    if not evaluations:
        return None
    chosen = read_choice(folder)
    replicas = read_results(confirm_folder).to_pylist() if (confirm_folder / RESULT.folder).is_dir() else []
    rows = {row["trial_id"]: row for row in table.to_pylist()}
    parents = {row["trial_id"]: row["replicate_of"] for row in replicas}
    numbers = {parents[row["trial_id"]] for row in evaluations if row["trial_id"] in parents}
    measured = {row["trial_id"] for row in evaluations} | {i for i, row in rows.items() if row["number"] in numbers}
    shown = [trial for trial in dict.fromkeys([*chosen, *sorted(measured)]) if trial in measured & set(rows)]
    if trials is not None:
        shown = [trial for trial in shown if trial in trials]
    members = confirmed(
        [rows[trial] for trial in shown],
        evaluations,
        replicas=replicas,
        outcomes=_outcomes(confirm_folder, replicas, evaluations),
    )
    same = _on_most([one for one in members if one.result["trial_id"] in chosen])
    curse = _average(folder, same)
    return HeldoutResults(
        members=tuple(members),
        chosen=tuple(one.result["trial_id"] for one in members if one.result["trial_id"] in chosen),
        evaluations=tuple(evaluations),
        curse=curse,
        averaged=len(same) if curse else 0,
        waiting=tuple(trial for trial in chosen if trial not in measured),
        same_images=_same_images(folder, [one.result for one in members], evaluations),
        lipschitz=_lipschitz(folder, [one.result for one in members], evaluations),
    )


def together(by_label: Mapping[str, HeldoutResults], /) -> HeldoutResults:
    """Combine the results on test of several studies; without a winner's curse, which is within one study.

    Args:
        by_label: Results by the prefix of the trial ids, as in `analysis.data.combine.relabelled`.
    """

    def renamed(row: Row, label: str) -> Row:
        return {**row, "study": label, "trial_id": f"{label}/{row['trial_id']}"}

    def ids(name: str) -> tuple[str, ...]:
        return tuple(f"{label}/{trial}" for label, one in by_label.items() for trial in getattr(one, name))

    def by_id(name: str) -> dict[str, Any]:
        return {
            f"{label}/{trial}": value for label, one in by_label.items() for trial, value in getattr(one, name).items()
        }

    members = [
        replace(one, result=renamed(one.result, label)) for label, each in by_label.items() for one in each.members
    ]
    return HeldoutResults(
        members=tuple(members),
        chosen=ids("chosen"),
        evaluations=tuple(renamed(row, label) for label, one in by_label.items() for row in one.evaluations),
        curse={},
        waiting=ids("waiting"),
        same_images=by_id("same_images"),
        lipschitz=by_id("lipschitz"),
    )


def curse_lines(results: HeldoutResults, /) -> list[str]:
    """Describe the winner's curse averaged over members; empty if unknown."""
    if not results.curse:
        return []
    estimates = ", ".join(f"{kind} {estimate.signed()}" for kind, estimate in results.curse.items())
    average = f"mean of {results.averaged} members" if results.averaged != 1 else "of the one member"
    return [
        f"winner's curse, {average}, validation - test of the same checkpoints: {estimates} (95 %, of the examples)"
    ]


def _same_images(folder: Path, results: Sequence[Row], evaluations: Sequence[Row]) -> dict[str, float | None]:
    accuracies = {}
    for result in results:
        like, hardest = like_for_like(result, evaluations), strongest(result, evaluations)
        if like is not None and hardest is not None and like["examples"] != hardest["examples"]:
            accuracies[result["trial_id"]] = on_images_of(folder, like, hardest)
    return accuracies


def _lipschitz(folder: Path, results: Sequence[Row], evaluations: Sequence[Row]) -> dict[str, Estimate]:
    estimates = {}
    for result in results:
        row = lipschitz_row(result, evaluations)
        if row is None:
            continue
        try:
            values = read_examples(examples_file(folder, row["evaluation"]))["lipschitz"].drop_null().to_numpy()
        except (ResultsError, OSError):
            continue
        if len(values) > 1:
            low, high = mean_interval(values)
            estimates[result["trial_id"]] = Estimate(value=float(values.mean()), low=float(low), high=float(high))
    return estimates


def _outcomes(folder: Path, replicas: Sequence[Row], evaluations: Sequence[Row]) -> dict[str, dict[str, np.ndarray]]:
    """Return the new seeds' outcomes on test by the name of their measurement and by kind."""
    names = [row["evaluation"] for replica in replicas for row in alike(replica, evaluations)]
    files = {name: file for name in names if (file := examples_file(folder, name)).exists()}
    tables = {name: read_examples(file) for name, file in files.items()}
    return {
        name: {kind: table[f"{kind}_correct"].to_numpy(zero_copy_only=False) for kind in KINDS}
        for name, table in tables.items()
    }


def _on_most(members: Sequence[ConfirmedMember]) -> list[tuple[ConfirmedMember, Row]]:
    """Return the members measured on test as on validation, with that measurement, on the most examples."""
    measured = [(one, one.test) for one in members if one.test is not None]
    most = max((test["examples"] for _, test in measured), default=0)
    return [(one, test) for one, test in measured if test["examples"] == most]


def _average(folder: Path, members: Sequence[tuple[ConfirmedMember, Row]]) -> dict[str, Estimate]:
    """Return the mean winner's curse by kind, from the members' outcomes; empty if those are missing."""
    ids = [one.result["trial_id"] for one, _ in members]
    files = [examples_file(folder, test["evaluation"]) for _, test in members]
    if not ids or not all(file.exists() for file in files):
        return {}
    try:
        val = outcomes(read_examples(folder, trials=ids), split="val")
    except ResultsError:
        return {}
    if set(val.trials) != set(ids):
        return {}
    tests = [read_examples(file) for file in files]
    return {
        kind: mean_curse(part, np.stack([table[f"{kind}_correct"].to_numpy(zero_copy_only=False) for table in tests]))
        for kind, part in (("clean", val.clean), ("robust", val.robust))
    }
