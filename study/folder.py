"""A study's folder: where it is made, what it must hold, how it is opened again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.config import StudyConfig, parse_config
from study.configfile import read_yaml, write_yaml
from study.errors import UsageError
from trainables.data import DATASETS

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


def read_rows(sources: Sequence[Path], /, *, skip_damaged: bool | None = None) -> Any:
    """Return the result rows of one or several studies as one table.

    Args:
        sources: Studies' folders, folders with `results/` alone, or Parquet files of `robust-study export`.
        skip_damaged: Leave out damaged files, each named in a warning; None where the command has no such option.

    Raises:
        UsageError: A source that is none of these, results of another schema, or damaged files.
    """
    from analysis.data.combine import read_studies
    from analysis.data.results import SchemaError
    from analysis.data.schema import RESULT, ResultsError

    for source in sources:
        if not source.is_file() and not (source / RESULT.folder).is_dir():
            open_config(source)
    try:
        return read_studies(sources, skip_damaged=bool(skip_damaged))
    except SchemaError as error:
        raise UsageError(str(error)) from error
    except ResultsError as error:
        optional = skip_damaged is False and "Parquet file" in str(error)
        more = "; --skip-damaged reads the rest" if optional else ""
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
    from study.tracking.client import default_uri
    from study.tracking.uris import absolute

    dataset = config.dataset
    if dataset.root is not None:
        dataset = replace(dataset, root=str(Path(dataset.root).expanduser().resolve()))
    if Path(dataset.name).expanduser().is_dir():
        dataset = replace(dataset, name=str(Path(dataset.name).expanduser().resolve()))
    search = config.search.model_copy(
        update={"fixed": _absolute_pools(config.search.fixed), "ranges": _absolute_pools(config.search.ranges)}
    )
    storage = config.storage
    if storage.checkpoints is not None and "://" not in storage.checkpoints:
        path = str(Path(storage.checkpoints).expanduser().resolve())
        storage = storage.model_copy(update={"checkpoints": path})
    tracking = config.tracking.model_copy(update={"uri": absolute(config.tracking.uri or default_uri())})
    return config.model_copy(update={"dataset": dataset, "search": search, "storage": storage, "tracking": tracking})


def pools(config: StudyConfig, /) -> list[str]:
    """Return the unlabelled pools that trials may use: data sets, folders or files."""
    named = [value for key, value in config.search.fixed.items() if _is_pool(key)]
    listed = [form["values"] for key, form in config.search.ranges.items() if _is_pool(key) and isinstance(form, dict)]
    return [pool for pool in [*named, *(pool for values in listed for pool in values)] if isinstance(pool, str)]


def _is_pool(key: str) -> bool:
    return key.rpartition(".")[2] == "pool"


def _absolute_pools(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the paths among their pools made absolute."""

    def path_made_absolute(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: path_made_absolute(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [path_made_absolute(inner) for inner in value]
        path = Path(value).expanduser() if isinstance(value, str) else None
        return str(path.resolve()) if path is not None and path.exists() and value not in DATASETS else value

    return {key: path_made_absolute(value) if _is_pool(key) else value for key, value in settings.items()}
