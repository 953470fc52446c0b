"""A study's folder: where it is made, what it must hold, how it is opened again."""

from __future__ import annotations

from pathlib import Path

from study.config.loading import read_yaml, write_yaml
from study.config.schema import StudyConfig, parse_config
from study.errors import UsageError
from trainables.checkpoints.files import is_url

CONFIG_FILE = "study.yaml"


def create(config: StudyConfig, out: Path, /) -> Path:
    """Make the folder of a new study and write its resolved config there.

    Raises:
        UsageError: A study of this name is there already.
    """
    folder = free_folder(config, out)
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(folder / CONFIG_FILE, config.to_dict())
    return folder


def free_folder(config: StudyConfig, out: Path, /) -> Path:
    """Return where a new study goes.

    Raises:
        UsageError: A study of this name is there already, or something that is no study.
    """
    folder = out / config.name
    if (folder / CONFIG_FILE).exists():
        raise UsageError(
            f"study {config.name!r} exists in {folder}: go on with `robust-study resume {folder}`, "
            "or launch under a new name with --set name=NEW_NAME"
        )
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} exists and holds no study: choose another name with --set name=NEW_NAME or another --out"
        )
    return folder


def open_config(study_dir: Path, /) -> StudyConfig:
    """Return the config of the study in a folder.

    Raises:
        UsageError: No such folder, no study in it, or a config that is not valid.
    """
    if not study_dir.is_dir():
        raise UsageError(f"study folder {study_dir} does not exist")
    if not (study_dir / CONFIG_FILE).is_file():
        raise UsageError(f"{study_dir} is no study's folder: it has no {CONFIG_FILE}")
    return parse_config(read_yaml(study_dir / CONFIG_FILE))


def checkpoint_root(config: StudyConfig, study_dir: Path, /) -> Path | str:
    """Return what holds one folder of checkpoints a trial: a path, or an object store's URL."""
    root = config.storage.checkpoints or study_dir / "checkpoints"
    return root if is_url(root) else Path(root).expanduser().resolve()


def member_folder(study_dir: Path, trial_id: str, /) -> Path:
    """Return where a front member's own figures lie."""
    return study_dir / FOLDER / "members" / trial_id


FILE = "report.html"
"""Its name in the study's folder."""


FOLDER = "tracking"
