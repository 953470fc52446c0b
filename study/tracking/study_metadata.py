"""What a study's parent run holds: config and search space, versions, the data set with its hash and counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from analysis.data.nested import flat
from study.config.schema import StudyConfig

if TYPE_CHECKING:
    from trainables.data.base import ImageData

DIGEST_LENGTH = 36
"""Longest digest MLflow stores, characters."""


def study_params(config: StudyConfig, /) -> dict[str, Any]:
    """Return the resolved config, flattened, and a description of each dimension of the search space."""
    space = {f"space.{dimension.key}": dimension.describe() for dimension in config.space().dimensions}
    return flat(config.to_dict()) | space


def settings_of_all_trials(config: StudyConfig, /) -> list[str]:
    """Return the parameters in MLflow that are searched and that trials of every method have."""
    shared = [
        dimension.name
        for dimension in config.space().dimensions
        if all(dimension.applies_to(method) for method in config.search.methods) and dimension.owner is None
    ]
    return [name if name == "train_epsilon" else f"param.{name}" for name in shared]


def study_tags(config: StudyConfig, /) -> dict[str, str]:
    """Return tags to filter studies by, the code's revision, and the versions installed here."""
    from trainables.runtime import code_revision, machine_columns

    versions = json.loads(machine_columns()["versions"])
    return {
        "study": config.name,
        "dataset": config.dataset.name,
        "model": config.model.name,
        "norm": config.evaluation.norm,
        "code_revision": code_revision() or "unknown",
        **{f"version.{name}": version for name, version in versions.items()},
    }


def dataset_event(data: ImageData, /) -> dict[str, Any]:
    """Return the data set's name, hash, source and counts, as `Tracker.dataset` takes them."""
    return {
        "name": data.name,
        "digest": data.split_hash[:DIGEST_LENGTH],
        "source": data.name,
        "profile": {
            "train": len(data.train),
            "val": len(data.val),
            "test": data.test_examples if data.test is None else len(data.test),
            "classes": data.num_classes,
            "image_shape": "x".join(map(str, data.image_shape)),
            "split_hash": data.split_hash,
        },
    }
