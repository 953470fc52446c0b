"""A study's folder: its location, its files, and how it is created and opened."""

from __future__ import annotations

from pathlib import Path

from analysis.data.proof_results import holds_proof, refusal
from analysis.data.schema import RESULT
from study.config.loading import read_yaml, write_yaml
from study.config.schema import StudyConfig, parse_config
from study.config.trust import named_by
from study.console import quoted
from study.directory.checkpoint_folder import new_owner, owner_of, write_owner
from study.errors import UsageError
from trainables.settings import with_former_values

CONFIG_FILE = "study.yaml"
REPORT_FILE = "report.html"
TRACKING_FOLDER = "tracking"


def create(config: StudyConfig, out: Path, /) -> Path:
    """Create the folder of a new study, and write its record of itself and its resolved config there.

    Raises:
        UsageError: The folder exists already.
    """
    folder = free_folder(config, out)
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(folder / CONFIG_FILE, config.to_dict())
    write_owner(folder, new_owner(config.name))
    return folder


def free_folder(config: StudyConfig, out: Path, /) -> Path:
    """Return the folder for a new study.

    Raises:
        UsageError: There is a study of this name already, or other files.
    """
    folder = out / config.name
    if (folder / CONFIG_FILE).exists():
        raise UsageError(
            f"study {config.name!r} exists in {folder}: resume it with `robust-study resume {quoted(folder)}`, "
            "or launch under a new name with --set name=NEW_NAME"
        )
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} exists and is not a study folder: choose another name with --set name=NEW_NAME or another --out"
        )
    return folder


def is_study(folder: Path, /) -> bool:
    """Return whether a folder holds results of a study, and is not just that of an exported file."""
    return (folder / RESULT.folder).is_dir()


def open_config(study_dir: Path, /) -> StudyConfig:
    """Return the config of the study in a folder.

    Raises:
        UsageError: The folder does not exist, has no study in it, or its config is invalid.
    """
    if not study_dir.is_dir():
        raise UsageError(f"study folder {study_dir} does not exist")
    if holds_proof(study_dir):
        raise UsageError(refusal(study_dir))
    if not (study_dir / CONFIG_FILE).is_file():
        raise UsageError(f"{study_dir} is not a study folder: it has no {CONFIG_FILE}")
    tree = with_former_values(read_yaml(study_dir / CONFIG_FILE), StudyConfig)
    named_by(study_dir, tree, study_id=recorded_id(study_dir))
    return parse_config(tree)


def recorded_id(study_dir: Path, /) -> str | None:
    """Return the id in a study's record of itself; None where it has none, or a damaged one."""
    try:
        owner = owner_of(study_dir)
    except UsageError:
        return None
    return None if owner is None else owner.id


def member_folder(study_dir: Path, trial_id: str, /) -> Path:
    """Return the folder of a front member's own figures."""
    return study_dir / TRACKING_FOLDER / "members" / trial_id
