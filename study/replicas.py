"""Trials to be trained again with new seeds: which, with which seeds, kept in a file that only grows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import UsageError
from trainables.seeding import derive

if TYPE_CHECKING:
    from study.config import StudyConfig

PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One trial of the study with another seed.

    Attributes:
        trial_id: Its id: the parent's and which of the new seeds it has, from 1.
        parent: Id of the trial whose settings it has.
        parent_number: That trial's number.
        repeat: Which of the parent's new seeds, from 1.
        seed: The seed.
        proposal: Who chose the settings, as the parent's row says.
        params: What Optuna holds of the parent.
        spec: The trial's spec.
    """

    trial_id: str
    parent: str
    parent_number: int
    repeat: int
    seed: int
    proposal: str
    params: dict[str, Any]
    spec: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The trials of a confirmation by their number, and the study beneath whose run they are tracked.

    Attributes:
        replicas: In order of their numbers.
        beneath: What identifies the study in tracking; None where it is not tracked.
    """

    replicas: tuple[Replica, ...]
    beneath: str | None = None

    def __len__(self) -> int:
        return len(self.replicas)

    def extended(
        self, config: StudyConfig, study_dir: Path, members: Sequence[Mapping[str, Any]], /, *, seeds: int
    ) -> Plan:
        """Return the plan with whatever it lacks of so many seeds for each member; nothing is taken out or changed.

        The first new seed of every member comes before anyone's second, so that a plan cut short is a balanced one.

        Args:
            config: The config of the study that the members belong to.
            study_dir: Its folder.
            members: Their result rows.
            seeds: New seeds for each.
        """
        from study.searcher import open_search

        known = {replica.trial_id for replica in self.replicas}
        taken = {row["seed"] for row in members}
        wanted = [(row, repeat) for repeat in range(1, seeds + 1) for row in members]
        missing = [(row, repeat) for row, repeat in wanted if _replica_id(row, repeat) not in known]
        search = open_search(config, study_dir) if missing else None
        added = [_replica(config, search, row, repeat=repeat, taken=taken) for row, repeat in missing]
        return Plan((*self.replicas, *added), self.beneath)

    def write(self, folder: Path, /) -> None:
        """Write the plan, whole or not at all."""
        temporary = folder / f".{PLAN_FILE}.tmp"
        temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        temporary.replace(folder / PLAN_FILE)

    def trial(self, number: int, /) -> dict[str, Any]:
        """Return what the plan says of a trial's Tune config."""
        replica = self.replicas[number]
        return {
            "trial_id": replica.trial_id,
            "number": number,
            "proposal": replica.proposal,
            "spec": replica.spec,
            "replicate_of": replica.parent_number,
        }


def read_plan(folder: Path, /) -> Plan | None:
    """Return the plan of a confirmation's folder, None where there is none.

    Raises:
        UsageError: The file is damaged.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return Plan(tuple(Replica(**one) for one in tree["replicas"]), tree["beneath"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({type(error).__name__}): move {folder} away and confirm again") from error


def _replica_id(row: Mapping[str, Any], repeat: int) -> str:
    return f"{row['trial_id']}-s{repeat}"


def _replica(config: StudyConfig, search: Any, row: Mapping[str, Any], *, repeat: int, taken: set[int]) -> Replica:
    from study.searcher import proposal_of

    number = int(row["number"])
    if number >= len(search.get_trials(deepcopy=False)):
        raise UsageError(
            f"the searcher's storage holds no trial {row['trial_id']}, so its settings are not known exactly: put the "
            "study's optuna.db back"
        )
    spec = config.trial_spec(proposal_of(search, config.space(), number), number=number).to_dict()
    seed = derive(config.search.seed, "confirm", number, repeat)
    if seed in taken or seed == spec["seed"]:
        raise AssertionError(f"seed {seed} is a parent's")  # one chance in 2**63 for each pair
    return Replica(
        trial_id=_replica_id(row, repeat),
        parent=row["trial_id"],
        parent_number=number,
        repeat=repeat,
        seed=seed,
        proposal=row["proposal"],
        params=search.get_trials(deepcopy=False)[number].params,
        spec=spec | {"seed": seed},
    )
