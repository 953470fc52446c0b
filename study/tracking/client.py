"""Opening an MLflow store: the one place that imports MLflow for the driver."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Without it MLflow's UI opens on its pages for language models, which know no charts of runs.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def connect(uri: str, /) -> MlflowClient:
    """Return a client of the store at `uri`; a SQLite store is created and migrated by this first use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient

    # after the import, which sets its own levels
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)

    return MlflowClient(tracking_uri=uri)


def experiment_id(client: MlflowClient, name: str, /) -> str:
    """Return the id of the experiment `name`, created on first use.

    With a SQLite store, artifacts go to `mlartifacts/` beside the database file, wherever MLflow's UI
    is started from; a server decides for itself.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    uri = client.tracking_uri
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" / name).resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))
