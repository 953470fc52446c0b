"""Reads a study's config from a YAML file or a preset, and applies `--set`."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from study.config.schema import StudyConfig, parse_config
from study.config.short_forms import full_form
from study.config.strict_yaml import parse_yaml
from study.config.trust import accept_server, named_by, typed
from study.config.validation_messages import explain
from study.errors import UsageError
from trainables.checkpoints.files import write_text
from trainables.methods import METHODS
from trainables.spec import TrialSpec


def presets() -> dict[str, Path]:
    """Return the files of the presets by name."""
    folder = Path(str(resources.files("study.config") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(
    source: str | Mapping[str, Any],
    /,
    *,
    assignments: Iterable[str] = (),
    data_root: Path | str | None = None,
    address: str | None = None,
) -> StudyConfig:
    """Read and check a study's config.

    Args:
        source: Path of a YAML file, name of a preset, or the config itself as nested values.
        assignments: `key=value` with dotted keys and YAML values, which replace those of the file.
        data_root: Replaces `dataset.root`.
        address: Replaces `cluster.address`.

    Raises:
        UsageError: The file or preset does not exist, is not valid YAML, or an assignment or the config is invalid.
    """
    given = dict(map(_parsed, assignments))
    typed(list(given.values()))
    if isinstance(source, str):
        path = _find(source)
        tree = read_yaml(path)
        if source not in presets():
            named_by(path, tree)
    else:
        tree = copy.deepcopy(dict(source))
    if not isinstance(tree, dict):
        got = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise UsageError(f"{source}: a study's config must be a mapping with `name`, `dataset` and `search`, got {got}")
    for key, value in given.items():
        _assign(tree, key, value)
    if "search.methods" in given:
        _drop_unchosen(tree["search"], given)
    for key, option, value in (("dataset.root", "--data-root", data_root), ("cluster.address", "--address", address)):
        if value is not None:
            if key in given:
                raise UsageError(f"--set {key} and {option} exclude each other: keep one")
            _assign(tree, key, str(value))
    full, refused = full_form(tree, StudyConfig)
    try:
        config = parse_config(full)
    except UsageError as error:
        raise UsageError(*refused, *error.problems) from error
    if refused:
        raise UsageError(*refused)
    # what a study's own folder names is given as values, and is no word of the user's
    if isinstance(source, str) or "tracking.uri" in given:
        accept_server(config.tracking.uri)
    return config


def load_spec(path: Path, /) -> TrialSpec:
    """Read and check the spec of a trial that is no study's.

    Raises:
        UsageError: The file is not valid YAML, or the spec is invalid; one line per mistake.
    """
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: a trial's spec must be a mapping with `dataset` and `method`, got {tree!r}")
    named_by(path, tree)
    full, problems = full_form(tree, TrialSpec)
    try:
        spec = TypeAdapter(TrialSpec).validate_python(full)
    except ValidationError as error:
        problems += explain(error, TrialSpec)
    if problems:
        raise UsageError(*(f"{path}: {problem}" for problem in problems))
    return spec


def read_yaml(path: Path, /) -> Any:
    """Return a YAML file's content.

    Raises:
        UsageError: The file cannot be read, is not valid YAML or has equal keys; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: must be text in UTF-8, got byte {error.object[error.start]:#x}: save it so"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    return _parse(text, where=str(path))


def write_yaml(path: Path, tree: Any, /) -> None:
    """Write plain nested values as YAML, atomically and with the keys in their order."""
    write_text(path, yaml_text(tree))


def yaml_text(tree: Any, /) -> str:
    """Return plain nested values as YAML, with the keys in their order."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _find(source: str) -> Path:
    files = presets()
    if source in files:
        return files[source]
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix in {".yaml", ".yml"} or "/" in source:
        raise UsageError(f"config file {source} does not exist")
    close = difflib.get_close_matches(source, files, n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(f"unknown preset {source!r}{hint}; valid: {', '.join(files)}, or the path of a YAML file")


_NO_VALUE = ("#", "&", "*", "@", "%", "`")
"""What begins no value in YAML, but may begin the name of a file."""


def _parsed(assignment: str) -> tuple[str, Any]:
    """Return key and value of a `--set`, in which # begins no comment."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes key=value, got {assignment.partition('@')[0]!r}")
    value = text if text.startswith(_NO_VALUE) else _parse(text, where=f"--set {key}")
    cut = isinstance(value, str) and not text.lstrip().startswith(("'", '"', "!", "|", ">"))
    return key.strip(), text.strip() if cut else value


def _parse(text: str, *, where: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    node = tree
    for part in sections:
        child = node[part] = {} if node.get(part) is None else node[part]
        if not isinstance(child, dict):
            raise UsageError(
                f"--set {key}: `{part}` is the value {child!r} here, not a section; write `{part}: {{...}}` in the file"
            )
        node = child
    node[last] = value


def _drop_unchosen(search: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Drop what a file says of methods that `--set search.methods` leaves out, but nothing that is assigned itself."""
    chosen = search["methods"] if isinstance(search["methods"], list) else []
    for section in ("ranges", "fixed"):
        settings = search.get(section)
        if isinstance(settings, dict) and not any(key.startswith(f"search.{section}") for key in given):
            owners = {key: str(key).rpartition(".")[0] for key in settings}
            search[section] = {
                key: value for key, value in settings.items() if owners[key] not in METHODS or owners[key] in chosen
            }
