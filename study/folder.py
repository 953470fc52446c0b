"""A study's folder: where it is made, what it must hold, how it is opened again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.config import StudyConfig, parse_config
from study.configfile import read_yaml, write_yaml
from study.errors import UsageError

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


def read_rows(sources: Sequence[Path], /, *, skip_damaged: bool = False) -> Any:
    """Return the result rows of one or several studies as one table.

    Args:
        sources: Studies' folders, folders with `results/` alone, or Parquet files of `robust-study export`.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: A source that is none of these, results of another schema, or damaged files.
    """
    from analysis.results import SchemaError, read_studies
    from analysis.schema import RESULT, ResultsError

    for source in sources:
        if not source.is_file() and not (source / RESULT.folder).is_dir():
            open_config(source)
    try:
        return read_studies(sources, skip_damaged=skip_damaged)
    except SchemaError as error:
        raise UsageError(str(error)) from error
    except ResultsError as error:
        more = "" if skip_damaged else "; --skip-damaged reads the rest" * ("Parquet file" in str(error))
        raise UsageError(f"{error}{more}") from error


def reference_of(sources: Sequence[Path], /) -> dict[str, float]:
    """Return the hypervolume's reference values that the sources' configs fix, by objective; exports fix none.

    Raises:
        UsageError: Two studies fix different values for one objective.
    """
    fixed: dict[str, float] = {}
    for source in sources:
        if not (source / CONFIG_FILE).is_file():
            continue
        for name, value in open_config(source).front.reference.items():
            if fixed.setdefault(name, value) != value:
                raise UsageError(
                    f"`front.reference.{name}` is {value:g} in {source} and {fixed[name]:g} in another study; "
                    "hypervolumes compare at one reference point: draw them apart"
                )
    return fixed


def resolved(config: StudyConfig, /) -> StudyConfig:
    """Return the config with paths that depend on the working folder made absolute, so that it can be resumed."""
    from study.tracking.tracker import default_uri

    dataset = config.dataset
    if dataset.root is not None:
        dataset = replace(dataset, root=str(Path(dataset.root).expanduser().resolve()))
    if Path(dataset.name).expanduser().is_dir():
        dataset = replace(dataset, name=str(Path(dataset.name).expanduser().resolve()))
    storage = config.storage
    if storage.checkpoints is not None and "://" not in storage.checkpoints:
        path = str(Path(storage.checkpoints).expanduser().resolve())
        storage = storage.model_copy(update={"checkpoints": path})
    tracking = config.tracking.model_copy(update={"uri": config.tracking.uri or default_uri()})
    return config.model_copy(update={"dataset": dataset, "storage": storage, "tracking": tracking})
