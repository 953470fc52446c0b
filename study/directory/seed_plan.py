"""The seed plan: trials to be retrained with new seeds, in a file to which trials are only added."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from study.errors import UsageError
from trainables.checkpoints.files import write_text
from trainables.settings import with_former_values
from trainables.spec import TrialSpec

PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A trial of the study with another seed.

    Attributes:
        trial_id: Its id: the parent's id and `repeat`.
        parent: Id of the trial whose settings it has.
        parent_number: Number of that trial.
        repeat: Number of the seed among the parent's new seeds, from 1.
        seed: The seed.
        proposal: How the settings were proposed, from the parent's row.
        params: The parent's parameters in Optuna.
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
    """The trials of a confirmation, and the study under whose MLflow run they are tracked.

    Attributes:
        replicas: The trials, ordered by number.
        parent_study_id: The study's id in tracking; None where it is not tracked.
    """

    replicas: tuple[Replica, ...]
    parent_study_id: str | None = None

    def __len__(self) -> int:
        return len(self.replicas)

    def write(self, folder: Path, /) -> None:
        """Write the plan atomically."""
        tree = {"replicas": [asdict(replica) for replica in self.replicas], "beneath": self.parent_study_id}
        write_text(folder / PLAN_FILE, json.dumps(tree, indent=1))

    def trial(self, number: int, /) -> dict[str, Any]:
        """Return the planned part of a trial's Tune config."""
        replica = self.replicas[number]
        return {
            "trial_id": replica.trial_id,
            "number": number,
            "proposal": replica.proposal,
            "spec": replica.spec,
            "replicate_of": replica.parent_number,
        }


def read_plan(folder: Path, /) -> Plan | None:
    """Return the plan in a confirmation's folder, None where there is none.

    Raises:
        UsageError: The file is damaged.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        specs = [with_former_values(replica["spec"], TrialSpec) for replica in tree["replicas"]]
        replicas = [Replica(**replica | {"spec": spec}) for replica, spec in zip(tree["replicas"], specs, strict=True)]
        return Plan(tuple(replicas), tree["beneath"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}): move {folder} away and run `confirm` again"
        ) from error
