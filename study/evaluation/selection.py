"""Which trials may be shown on test: the front as validation chose it, fixed in a file at its first use, or named ones.

Later uses read the file, so that nothing seen on test can change who is shown there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.heldout.members import CHOICE_FILE
from study.console import notes, quoted
from study.directory.lock import running_driver
from study.directory.seed_plan import PLAN_FILE
from study.errors import UsageError, usage_errors
from trainables.checkpoints.files import write_text


@dataclass(frozen=True)
class ChosenFront:
    """The front that validation chose.

    Attributes:
        chosen_at: When, UTC, ISO 8601.
        trials: Number of the study's trials at that time.
        members: Ids of the front's trials, best clean accuracy first.
    """

    chosen_at: str
    trials: int
    members: tuple[str, ...]


def read_choice(study_dir: Path, /) -> ChosenFront | None:
    """Return a study's chosen front, None before its first use of test data.

    Raises:
        UsageError: The file is damaged.
    """
    path = study_dir / CHOICE_FILE
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return ChosenFront(str(tree["chosen_at"]), int(tree["trials"]), tuple(map(str, tree["members"])))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} must hold chosen_at, trials and members as JSON ({type(error).__name__}): repair it, or remove it "
            "to choose again on validation"
        ) from error


def chosen_members(study_dir: Path, table: Any, /, *, most: int) -> list[dict[str, Any]]:
    """Return result rows of at most `most` members of the chosen front, spread along it; fix the choice if it is new.

    Args:
        study_dir: The study's folder.
        table: All its result rows.
        most: Maximum number of members, at least 1.

    Raises:
        UsageError: The study is running, has no front, or the row of a chosen trial is missing.
    """
    from analysis.fronts.front import spread_along
    from analysis.fronts.objectives import FRONT, values

    if (study_dir / PLAN_FILE).exists():
        raise UsageError(
            f"{study_dir} has the new seeds of {study_dir.parent}'s members, of which none is chosen: name trials "
            "with --trial ID"
        )
    choice = read_choice(study_dir) or _choose(study_dir, table)
    rows = {row["trial_id"]: index for index, row in enumerate(table.select(["trial_id"]).to_pylist())}
    lost = [trial for trial in choice.members if trial not in rows]
    if lost:
        raise UsageError(
            f"{study_dir / CHOICE_FILE} names trial {lost[0]}, whose row is missing: restore it, or remove the file to "
            "choose again on validation"
        )
    if table.num_rows != choice.trials:
        notes().print(
            f"the front was chosen among {choice.trials} trials, on {choice.chosen_at}; the study has {table.num_rows} "
            f"now. The choice is kept; to choose again on validation, remove {study_dir / CHOICE_FILE}"
        )
    members = table.take([rows[trial] for trial in choice.members])
    kept: list[dict[str, Any]] = members.take(spread_along(values(members, FRONT), cap=most)).to_pylist()
    return kept[::-1]


def named_trials(study_dir: Path, table: Any, ids: Sequence[str], /) -> list[dict[str, Any]]:
    """Return the result rows of trials that a user named, each once; leading zeros may be left out.

    Raises:
        UsageError: No such trial, or one that failed.
    """
    rows = {row["trial_id"]: row for row in table.to_pylist()}
    named: dict[str, dict[str, Any]] = {}
    for given in ids:
        trial_id = given if given in rows else given.zfill(len(next(iter(rows), "")))
        if trial_id not in rows:
            known = f"{min(rows)} to {max(rows)}" if rows else "none yet"
            raise UsageError(f"{study_dir} has no result of trial {given!r}; it has: {known}")
        row = rows[trial_id]
        if row["status"] == "failed":
            raise UsageError(
                f"trial {trial_id} failed ({row['reason']}), so there is no network to measure: name another"
            )
        named[trial_id] = row
    return list(named.values())


def _choose(study_dir: Path, table: Any) -> ChosenFront:
    from analysis.fronts.front import MixedStudiesError, front_of
    from analysis.wording import why_no_front

    driver = running_driver(study_dir)
    if driver is not None:
        raise UsageError(
            f"{study_dir} is being run by {driver}, and its front may still change: wait until it ends, or name "
            "trials with --trial ID"
        )
    with usage_errors(MixedStudiesError):
        front = front_of(table)
    if not front.num_rows:
        raise UsageError(
            f"{study_dir} has no front yet ({why_no_front(table)}): run `robust-study resume {quoted(study_dir)}` "
            "where trials are left to run, or name trials with --trial ID"
        )
    members = tuple(front["trial_id"].to_pylist())
    choice = ChosenFront(datetime.now(UTC).isoformat(timespec="seconds"), int(table.num_rows), members)
    write_text(study_dir / CHOICE_FILE, json.dumps(asdict(choice), indent=1))
    notes().print(f"the front of {len(members)} is fixed in {study_dir / CHOICE_FILE}: test results cannot change it")
    return choice
