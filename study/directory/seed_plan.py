"""Trials to be trained again with new seeds: which, with which seeds, kept in a file that only grows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from study.errors import UsageError
from trainables.checkpoints.files import write_text

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
        parent_study_id: What identifies the study in tracking; None where it is not tracked.
    """

    replicas: tuple[Replica, ...]
    parent_study_id: str | None = None

    def __len__(self) -> int:
        return len(self.replicas)

    def write(self, folder: Path, /) -> None:
        """Write the plan, whole or not at all."""
        tree = {"replicas": [asdict(one) for one in self.replicas], "beneath": self.parent_study_id}
        write_text(folder / PLAN_FILE, json.dumps(tree, indent=1))

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
