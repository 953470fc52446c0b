"""Artifacts of a trial's run: per-example outcomes, the traceback of a failure, the network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from analysis.data.files import COMPACTED, trial_files
from analysis.data.results import read_examples, trial_file, write_table
from analysis.data.schema import EXAMPLE

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from torch import nn

ERRORS = "errors"

ERROR_FOLDER = "error"
"""Artifact folder of the traceback."""


@contextmanager
def artifact_files(study_dir: Path, trial_id: str, /) -> Iterator[list[tuple[Path, str]]]:
    """Yield a trial's artifact files, each with its artifact folder.

    A finished study keeps the outcomes of all trials in one file; the trial's outcomes are copied to a temporary file.
    """
    with tempfile.TemporaryDirectory(prefix="robust-study-") as scratch:
        examples = trial_file(study_dir, trial_id, schema=EXAMPLE)
        if not examples.exists():
            table = read_examples(study_dir, trials=[trial_id], skip_damaged=True)
            examples = Path(scratch) / examples.name
            if table.num_rows:
                write_table(examples, table)
        traceback = study_dir / ERRORS / f"{trial_id}.txt"
        pairs = ((examples, EXAMPLE.folder), (traceback, ERROR_FOLDER))
        # a link could lead to any file
        yield [(path, folder) for path, folder in pairs if path.is_file() and not path.is_symlink()]


def own_file(study_dir: Path, path: str, /, *, refused: list[str]) -> Path:
    """Return the place of an artifact that the spool names, in the study's folder.

    One elsewhere, which only a forged line names, is listed in `refused`; then no file is at the returned path.
    """
    place = (study_dir / path).resolve()
    if place.is_relative_to(study_dir.resolve()) and not any(inner.is_symlink() for inner in place.rglob("*")):
        return place
    refused.append(f"{path}: artifacts are taken from the study's own folder only, and not by way of links")
    return study_dir / "nowhere"


def expected_artifacts(study_dir: Path, /) -> dict[str, list[str]]:
    """Return the artifact paths that each trial's run must have, by trial id."""
    expected: dict[str, list[str]] = {}
    measured: set[str] = set()
    for path in trial_files(study_dir / EXAMPLE.folder):
        compacted = path.name == COMPACTED
        measured |= set(read_examples(path)["trial_id"].unique().to_pylist()) if compacted else {path.stem}
    for trial in sorted(measured):
        expected.setdefault(trial, []).append(f"{EXAMPLE.folder}/{trial}.parquet")
    for path in sorted((study_dir / ERRORS).glob("*.txt")):
        expected.setdefault(path.stem, []).append(f"{ERROR_FOLDER}/{path.name}")
    return expected


MODEL = "model"
"""Name of a run's model."""


def save_model(model: nn.Module, images: np.ndarray, folder: Path, /) -> None:
    """Write a network as an MLflow model with a signature and an input example.

    Args:
        model: Maps images (n, c, h, w) in [0, 1] to logits (n, K); in eval mode, on the CPU.
        images: float32 (n, c, h, w), n at least 2: a batch of one would fix the batch size.
        folder: Must not exist.
    """
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    with torch.no_grad():
        logits = model(torch.from_numpy(images)).numpy()
    image = TensorSpec(np.dtype(np.float32), (-1, *images.shape[1:]))
    output = TensorSpec(np.dtype(np.float32), (-1, *logits.shape[1:]))
    mlflow.pytorch.save_model(
        model,
        str(folder),
        signature=ModelSignature(inputs=Schema([image]), outputs=Schema([output])),
        input_example=images,
        serialization_format="pt2",
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}", f"numpy=={np.__version__}"],
    )


def log_model(client: MlflowClient, folder: Path, /, *, run_id: str, experiment_id: str) -> None:
    """Log a model written by `save_model` to a run, unless the run has one.

    Uses a client: MLflow's fluent functions set the active run and the store for the whole process.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    query = f"source_run_id = '{run_id}' AND name = '{MODEL}'"
    models = client.search_logged_models([experiment_id], filter_string=query)
    if any(model.status == LoggedModelStatus.READY for model in models):
        return
    logged = client.create_logged_model(
        experiment_id, name=MODEL, source_run_id=run_id, params=client.get_run(run_id).data.params
    )
    # MLflow's own reader takes the path for a URI
    description = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
    description.model_id, description.run_id = logged.model_id, run_id
    description.artifact_path = logged.artifact_location
    description.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
