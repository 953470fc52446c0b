"""The folder of a study's checkpoints: where it is, which study it belongs to, and that no other study uses it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from study.config.schema import StudyConfig
from study.config.trust import own_code, remember
from study.console import notes
from study.directory.seed_plan import PLAN_FILE
from study.errors import UsageError
from trainables.checkpoints.files import exists, folders, is_url, join, read_bytes, write_text
from trainables.data.roots import expanded
from trainables.settings import with_former_values
from trainables.spec import TrialSpec

OWNER_FILE = "owner.json"
_TRIAL = re.compile(r"\d{5,}(-s\d+)?")


@dataclass(frozen=True)
class Owner:
    """The study that a folder belongs to: its own folder, and that of its checkpoints.

    Attributes:
        study: Its name when it was launched.
        id: Its id, which it keeps when its folder is renamed, moved or copied.
        root: The `storage.checkpoints` that a study of an earlier version has to itself; None for none.
    """

    study: str
    id: str
    root: str | None = field(default=None, compare=False)

    @property
    def folder(self) -> str:
        """The name of its folder in `storage.checkpoints`."""
        return f"{self.study}-{self.id}"


def new_owner(study: str, /) -> Owner:
    """Return a new study's record of itself."""
    return Owner(study, uuid.uuid4().hex)


def read_owner(location: Path | str, /) -> Owner | None:
    """Return the study that a folder belongs to; None for one without a record, as of earlier versions.

    Raises:
        UsageError: The record is damaged.
    """
    path = join(location, OWNER_FILE)
    if not exists(path):
        return None
    try:
        return Owner(**json.loads(read_bytes(path)))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({type(error).__name__}): restore it from the study's folder") from error


def write_owner(location: Path | str, owner: Owner, /) -> None:
    """Record the study that a folder belongs to."""
    write_text(join(location, OWNER_FILE), json.dumps(asdict(owner)))


def owner_of(study_dir: Path, /) -> Owner | None:
    """Return a study's record of itself; new seeds belong to the study whose they are. None: an earlier version's."""
    return read_owner(_home(study_dir))


def _home(study_dir: Path) -> Path:
    return study_dir.parent if (study_dir / PLAN_FILE).is_file() else study_dir


def checkpoint_root(config: StudyConfig, study_dir: Path, /) -> Path | str:
    """Return the parent of the trials' checkpoint folders: a path, or an object store's URL.

    It is `checkpoints` in the study's folder, or a folder of the study's own in `storage.checkpoints`. A study of an
    earlier version, or one that is not launched yet, has `storage.checkpoints` itself.
    """
    place, owner = _place(config, study_dir), owner_of(study_dir)
    if config.storage.checkpoints is None or owner is None or owner.root == str(place):
        return place
    return join(place, owner.folder)


def _place(config: StudyConfig, study_dir: Path) -> Path | str:
    root = config.storage.checkpoints or study_dir / "checkpoints"
    return root if is_url(root) else expanded(root).resolve()


def foreign(location: Path | str, study_dir: Path, /) -> str | None:
    """Return a line that a folder of checkpoints belongs to another study; None where it does not."""
    owner = read_owner(location)
    return None if owner is None or owner == owner_of(study_dir) else _refusal(location, owner, study_dir)


def _refusal(location: Path | str, owner: Owner, study_dir: Path) -> str:
    return (
        f"the checkpoints in {location} belong to study {owner.study} (id {owner.id}), not to {study_dir}: "
        "set storage.checkpoints to another folder"
    )


def claim(
    config: StudyConfig, study_dir: Path, /, *, study_id: str, specs: Callable[[], Mapping[str, Mapping[str, Any]]]
) -> Path | str:
    """Make the folder of a study's checkpoints its own, and return it.

    A study of an earlier version keeps `storage.checkpoints` itself if every checkpoint there is one of its trials'.

    Args:
        config: The study's config.
        study_dir: Its folder.
        study_id: The id that a study of an earlier version gets.
        specs: Returns the specs of its trials by id.

    Raises:
        UsageError: The folder belongs to another study.
    """
    place, own = _place(config, study_dir), owner_of(study_dir)
    if config.storage.checkpoints is None:
        return place
    owner, there = own or Owner(config.name, study_id), read_owner(place)
    if there == owner if own else there is None and _are_all_of(place, specs):
        owner = replace(owner, root=str(place))
    root = place if owner.root == str(place) else join(place, owner.folder)
    recorded = read_owner(root)
    if recorded is None:
        write_owner(root, owner)
    elif recorded != owner:
        raise UsageError(_refusal(root, recorded, study_dir))
    if own is None:  # what was accepted for it when it had no id holds for it still
        remember(_home(study_dir), own_code(config.to_dict()), study_id=owner.id)
    if own is None or own.root != owner.root:  # last: until then it is a study of an earlier version
        write_owner(_home(study_dir), owner)
    return root


def _are_all_of(root: Path | str, specs: Callable[[], Mapping[str, Mapping[str, Any]]]) -> bool:
    """Return whether a folder has checkpoints and all are of these trials; print a line where only some are."""
    from trainables.checkpoints.format import CheckpointError, check_spec, read_spec
    from trainables.training.loop import BEST, LAST, PARTIAL

    trials = [name for name in folders(root) if _TRIAL.fullmatch(name)]
    known = specs() if trials else {}
    number = 0
    for trial in trials:
        for name in (LAST, BEST, PARTIAL):
            path = join(root, trial, name)
            stored = read_spec(path)
            if stored is None:
                continue
            try:
                if trial not in known:
                    raise CheckpointError(f"{path} is of no trial of this study")
                check_spec(path, with_former_values(stored, TrialSpec), known[trial])
            except CheckpointError as error:
                notes().print(f"{root} has checkpoints of another study ({error}): this study uses a folder of its own")
                return False
            number += 1
    return number > 0
