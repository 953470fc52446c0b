"""Results of networks trained on train and test together: files of their own, which nothing reads as a study's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.data.columns import Column, Schema
from analysis.data.schema import EVALUATION

TRAIN_AND_TEST = "train+test"
"""The split of the proof of concept, which is trained on the test images too."""

TABLE = "proof-of-concept"
"""Stem of the files of its own table."""

_OF_EVALUATION = (
    "dataset", "split_hash", "model", "method", "seed", "norm", "epsilon", "attack", "steps", "restarts", "examples",
    "clean_accuracy", "robust_accuracy", "lipschitz_mean", "lipschitz_median", "lipschitz_p95", "lipschitz_max",
    "lipschitz_scale_free_mean", "lipschitz_examples", "flags", "seconds", "device", "host", "versions",
    "code_revision",
)  # fmt: skip

PROOF = Schema(
    name="train+test result",
    version=1,
    folder=TRAIN_AND_TEST,
    columns=(
        Column(name="split", type="string", doc="what the network was trained on", choices=(TRAIN_AND_TEST,)),
        Column(name="part", type="string", doc="which of these images were measured", choices=("train", "test")),
        Column(name="train_images", type="int32", doc="images of the source's training set that it was trained on"),
        Column(name="test_images", type="int32", doc="images of the source's test set that it was trained on"),
        Column(name="spec", type="string", doc="everything that training and measurement depend on, JSON"),
        *(EVALUATION.by_name[name] for name in _OF_EVALUATION),
    ),
)
"""A row for each part of the images of each network."""


def holds_proof(folder: Path, /) -> bool:
    """Return whether a folder is that of a proof of concept, or the one of its results."""
    return folder.name == PROOF.folder or (folder / PROOF.folder).is_dir()


def trained_on_test(spec: Mapping[str, Any] | None, /) -> bool:
    """Return whether the spec in a network's checkpoint, None without one, is that of a proof of concept."""
    dataset = None if spec is None else spec.get("dataset")
    return isinstance(dataset, Mapping) and str(dataset.get("name")).endswith(TRAIN_AND_TEST)


def refusal(place: str | Path, /) -> str:
    """Return why results at a place are not read beside those of studies, in one line."""
    return (
        f"{place} is the proof of concept, trained on train and test together (split {TRAIN_AND_TEST}): it has no "
        f"result on validation or test, and is shown by its own table alone, {TABLE}.md"
    )
