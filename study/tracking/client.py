"""MLflow's client: connecting to a store, finding runs, and converting values to what MLflow stores."""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from study.config.file_urls import for_mlflow, sqlite_path, sqlite_url
from study.config.trust import require_server
from study.errors import UsageError, short
from study.tracking.row_mapping import CONFIRMS_TAG, PARENT_TAG, STUDY, STUDY_TAG, TRIAL_TAG, row_from_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

DEFAULT_EXPERIMENT = "robust-study"

# Without it MLflow's UI opens on its pages for language models, which have no charts of runs.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

# A request times out after seconds, not after MLflow's minutes: it is retried from the spool.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

_UNUSABLE = re.compile(
    "already exists|no such (table|column)|duplicate column|not a database|malformed|out-of-date database|find revision"
)
"""What SQLite, Alembic and MLflow say of a store that no repeated attempt can open."""

_REFUSALS = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "INVALID_STATE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
}


def connect(uri: str, /) -> MlflowClient:
    """Return a client of the store at `uri`; a SQLite store is created or migrated.

    MLflow itself reads a server's user name and password, or token, with every request from
    `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`.

    Raises:
        UsageError: Only a study's folder names this server, and there are credentials to send; or a SQLite store is
            damaged or was left half made.
        OSError: The folder of a SQLite file cannot be made.
    """
    require_server(uri)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # after the import, which sets its own levels
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)

    path = sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)  # as MLflow does, and it would retry for minutes without
        _create_whole(path)
    try:
        return MlflowClient(tracking_uri=for_mlflow(uri))
    except Exception as error:  # SQLAlchemy's, Alembic's or MLflow's own; a lock or a full disk may pass
        if path is None or not _UNUSABLE.search(str(error)):
            raise
        raise UsageError(
            f"MLflow's store {path} is damaged, half made or of another version of MLflow ({short(error)}): move it "
            "away, and `robust-study sync STUDY_DIR` writes all runs of a study to a new one"
        ) from error


def store_problem(uri: str, /) -> str | None:
    """Return why no repeated attempt can open the store at a URI and what to do; None where it is open, or may be."""
    try:
        connect(uri)
    except UsageError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - such as a lock, which passes: the uploader tries again
        return None
    return None


def _create_whole(path: Path) -> None:
    """Create a SQLite store that is not there, whole or not at all: MLflow can never use one left half created.

    MLflow writes the place of its default experiment's artifacts into a statement of SQL unescaped, which fails
    with quotes; a URI has none.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if path.exists():
        return
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent, ignore_cleanup_errors=True) as folder:
        new = Path(folder) / "new.db"
        location = (path.parent / "mlartifacts").resolve().as_uri()
        store = SqlAlchemyStore(for_mlflow(sqlite_url(new)), location)  # type: ignore[no-untyped-call] # so in MLflow
        store.engine.dispose()
        # of two drivers that create it at once, the second uses the first one's; without hard links MLflow creates it
        with suppress(OSError):
            os.link(new, path)


def require_artifact_server(client: MlflowClient, location: str, /) -> None:
    """Check that MLflow may send its credentials to the server that keeps artifacts, if one does.

    Raises:
        UsageError: Neither the user nor the tracking server's own address names it.
    """
    proxy, _, place = location.partition("://")
    require_server(f"{urlsplit(client.tracking_uri).scheme}://{place}" if proxy == "mlflow-artifacts" else location)


def experiment_id(client: MlflowClient, name: str, /) -> str:
    """Return the id of the experiment `name`, created on first use.

    A SQLite store's artifacts go to `mlartifacts/` beside the database file, independent of the folder in which
    MLflow's UI is started; a server has its own place for them.

    Raises:
        UsageError: The experiment was deleted, or its artifacts go to a server that only a study's folder names.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        restore = f"MLFLOW_TRACKING_URI={shlex.quote(client.tracking_uri)} mlflow experiments restore --experiment-id"
        raise UsageError(
            f"experiment {name!r} was deleted: restore it with `{restore} {experiment.experiment_id}`, or choose "
            "another with tracking.experiment"
        )
    if experiment is not None:
        require_artifact_server(client, experiment.artifact_location)
        return str(experiment.experiment_id)
    store, location = sqlite_path(client.tracking_uri), None
    if store is not None:
        folder = name.replace("/", "_").replace("..", "__")  # within mlartifacts, also ../x
        location = (store.parent / "mlartifacts" / folder).resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))


def points(values: Mapping[str, Any], /, time: int, step: int) -> list[Metric]:
    """Return named values as points of metrics, without those that are None; `time` in milliseconds since 1970."""
    from mlflow.entities import Metric

    return [Metric(name, float(value), time, step) for name, value in values.items() if value is not None]


def dataset_input(event: Mapping[str, Any], /) -> DatasetInput:
    """Return the data set of a `Tracker.dataset` event as an input of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=event["name"],
        digest=event["digest"],
        source_type="code",
        source=json.dumps({"tags": {"loader": event["source"]}}),
        profile=json.dumps(event["profile"]),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "training")])


def is_refusal(error: Exception, /) -> bool:
    """Return whether a retry is pointless: the store refused the request, or the event itself is invalid."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _REFUSALS
    if isinstance(error, json.JSONDecodeError):
        return False  # a proxy's page in place of the server's answer
    return isinstance(error, (ValueError, TypeError, LookupError, FileNotFoundError))


STATUS = {"completed": "FINISHED", "stopped_early": "FINISHED", "failed": "FAILED"}
"""MLflow's status of a trial's run."""

OPEN = ("RUNNING", "SCHEDULED")
"""MLflow's statuses of a run that has not ended."""

PAGE = 1000


def runs_of(client: MlflowClient, experiment: str, query: str, /) -> Iterator[Run]:
    """Yield the runs of an experiment that match a filter, the oldest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment], filter_string=query, max_results=PAGE, order_by=["start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


@dataclass
class TrackedRun:
    """A run in the store, as last read or written.

    Attributes:
        run_id: MLflow's id.
        status: MLflow's status.
        row: The result row in its tags; None if absent or damaged.
        params: Parameters.
        tags: Tags.
        metrics: Latest values of the metrics.
        steps: Epochs at which a metric has points, for each metric that was read.
        pending: Metrics of epochs to send with the next batch: step to time and values.
        suspect: Whether the read-back found a difference, so that every part of the run is compared.
    """

    run_id: str
    status: str = "RUNNING"
    row: dict[str, Any] | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    steps: dict[str, set[int]] = field(default_factory=dict)
    pending: dict[int, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    suspect: bool = False

    def last_step(self, metric: str, /) -> int:
        """Return the last epoch at which a metric is known to have a point; 0 if there is none."""
        return max(self.steps.get(metric) or self.steps.get("epoch") or (0,)) if metric in self.metrics else 0


def tracked_run(run: Run, /) -> TrackedRun:
    """Return one of MLflow's runs as a `TrackedRun`."""
    data = run.data
    return TrackedRun(
        run.info.run_id,
        status=run.info.status,
        row=stored_row(run),
        params=dict(data.params),
        tags=dict(data.tags),
        metrics=dict(data.metrics),
    )


def stored_row(run: Run, /) -> dict[str, Any] | None:
    """Return the result row in a run's tags; None if it is absent or damaged."""
    try:
        return row_from_tags(run.data.tags)
    except ValueError:
        return None


def parent_tags(client: MlflowClient, experiment: str, parent_study_id: str | None, /) -> dict[str, str]:
    """Return the tags that nest a confirmation under the run of the study it confirms; none for other studies."""
    if parent_study_id is None:
        return {}
    query = f"tags.`{STUDY_TAG}` = '{parent_study_id}' and tags.`{TRIAL_TAG}` = '{STUDY}'"
    parent = next(runs_of(client, experiment, query), None)
    return {CONFIRMS_TAG: parent_study_id} | ({} if parent is None else {PARENT_TAG: parent.info.run_id})


def user_name() -> str:
    """Return the user's name; "unknown" for a user id without one, as in containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
