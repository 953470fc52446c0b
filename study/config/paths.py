"""Makes the paths in a config absolute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from study.config.schema import StudyConfig
from trainables.data import DATASETS
from trainables.data.roots import expanded
from trainables.methods import METHODS


def resolved(config: StudyConfig, /) -> StudyConfig:
    """Return the config with absolute paths, so that the study can be resumed from any working folder."""
    from study.config.file_urls import absolute, default_uri

    dataset = config.dataset
    if dataset.root is not None:
        dataset = replace(dataset, root=str(expanded(dataset.root).resolve()))
    if expanded(dataset.name).is_dir():
        dataset = replace(dataset, name=str(expanded(dataset.name).resolve()))
    search = config.search.model_copy(
        update={"fixed": _absolute_pools(config.search.fixed), "ranges": _absolute_pools(config.search.ranges)}
    )
    training = replace(config.training, extra=_absolute_pools({"extra": config.training.extra})["extra"])
    storage = config.storage
    if storage.checkpoints is not None and "://" not in storage.checkpoints:
        path = str(expanded(storage.checkpoints).resolve())
        storage = storage.model_copy(update={"checkpoints": path})
    tracking = config.tracking.model_copy(update={"uri": absolute(config.tracking.uri or default_uri())})
    sections = {"dataset": dataset, "training": training, "search": search, "storage": storage, "tracking": tracking}
    return config.model_copy(update=sections)


def pools(config: StudyConfig, /) -> list[str]:
    """Return the unlabelled pools that trials may use, each once: names of data sets, folders or files."""
    search = config.search
    fixed = [value for key, value in search.fixed.items() if key.rpartition(".")[2] == "pool"]
    listed = [
        form["values"]
        for key, form in search.ranges.items()
        if key.rpartition(".")[2] == "pool" and isinstance(form, dict)
    ]
    given = {*search.fixed, *search.ranges}
    defaults = [
        getattr(METHODS.load(method), "pool", None)
        for method in search.methods
        if not {"pool", f"{method}.pool"} & given
    ]
    every = [*fixed, *(pool for values in listed for pool in values), *defaults]
    return list(dict.fromkeys(pool for pool in every if isinstance(pool, str)))


def extras(config: StudyConfig, /) -> list[str]:
    """Return the further labelled images that trials may use, each once."""
    form = config.search.ranges.get("extra", {})
    listed = form.get("values", []) if isinstance(form, dict) else []
    fixed = [value for key, value in config.search.fixed.items() if key.rpartition(".")[2] == "extra"]
    every = [config.training.extra, *fixed, *listed]
    return list(dict.fromkeys(name for name in every if isinstance(name, str)))


def is_pool(key: str, /) -> bool:
    """Return whether the setting of a key names a pool of images, without labels or with."""
    return key.rpartition(".")[2] in ("pool", "extra")


def _absolute_pools(settings: Mapping[str, Any]) -> dict[str, Any]:
    def with_absolute_path(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_absolute_path(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [with_absolute_path(inner) for inner in value]
        path = expanded(value) if isinstance(value, str) else None
        return str(path.resolve()) if path is not None and path.exists() and value not in DATASETS else value

    return {key: with_absolute_path(value) if is_pool(key) else value for key, value in settings.items()}
