"""A study's view of MLflow's runs page: columns, order and charts; its links; and the note on the study's run.

MLflow's page takes its state from an experiment tag if its address names the tag. Each study has a tag of its own, so
studies that share an experiment do not meet, and neither do views that a user shares.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from study.errors import short
from study.tracking.row_mapping import FRONT_PLACE, LOG_LIPSCHITZ, STUDY_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

VIEW_TAG = "mlflow.sharedViewState."
"""Start of the name of an experiment's tag with a shared view; the study's id ends it."""

NOTE_TAG = "mlflow.note.content"
"""Tag of a run that MLflow shows as Markdown at the top of the run's page."""

NOTE_DIGEST = "robust_study.note"
"""Tag with a digest of the note as it was last written here: one that differs was edited by a user."""

PAGES = "workflowType=machine_learning"
"""Selects MLflow's pages for model training, not those for language models."""

HOST, PORT = "127.0.0.1", 5000
"""Where `robust-study ui` serves MLflow, unless the port is taken."""

CLEAN, ROBUST, LIPSCHITZ = "val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_mean"

COLUMNS = {
    ("tags", FRONT_PLACE): 90,
    ("tags", "method"): 115,
    ("params", "param.dropout"): 80,
    ("tags", "strength"): 90,
    ("params", "train_epsilon"): 85,
    ("metrics", CLEAN): 105,
    ("metrics", ROBUST): 105,
    ("metrics", LIPSCHITZ): 105,
    ("tags", "flags"): 90,
    ("tags", "status"): 90,
}
"""The kind and name of each column, in the order shown, with its width in pixels."""

_FIRST, _LAST = {"attributes.`Run Name`": 150}, {"runDateAndNestInfo": 150, "duration": 80}
_SECTION = "study"
_MOST_RUNS = 100
"""Most runs in one of MLflow's charts, and the number it loads at first."""


def view_state(*, study: str, study_id: str, settings: Sequence[str]) -> str:
    """Return the state of MLflow's runs page that shows a study, as JSON.

    The front's members come first. Charts are drawn of all runs that are loaded: clean against robust accuracy, robust
    accuracy against Lipschitzness (as log10, since MLflow's scatter plots have no log axis), the hypervolume over the
    trials, and parallel coordinates.

    Args:
        study: The study's name, the heading of its charts.
        study_id: Identifies its runs.
        settings: Parameters for the parallel coordinates, which leave out a trial that has not got all of them.
    """
    columns = {_column(*place): width for place, width in COLUMNS.items()}
    widths = _FIRST | columns | _LAST
    state = {
        "searchFilter": f"tags.`{STUDY_TAG}` = '{study_id}'",
        "orderByKey": _column("tags", FRONT_PLACE),
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": None,
        "hideEmptyCharts": True,
        "compareRunCharts": [{**_CARD, "uuid": str(number), **chart} for number, chart in enumerate(_charts(settings))],
        "compareRunSections": [{**_FLAGS, "uuid": _SECTION, "name": study, "display": True, "columns": 2}],
    }
    return json.dumps(state, separators=(",", ":"))


def _charts(settings: Sequence[str]) -> list[dict[str, Any]]:
    def metric(name: str) -> dict[str, str]:
        return {"key": name, "type": "METRIC"}

    return [
        {"type": "SCATTER", "xaxis": metric(CLEAN), "yaxis": metric(ROBUST)},
        {"type": "SCATTER", "xaxis": metric(ROBUST), "yaxis": metric(LOG_LIPSCHITZ)},
        {
            "type": "LINE", "metricKey": "hypervolume", "selectedMetricKeys": ["hypervolume"], "xAxisKey": "step",
            "yAxisKey": "metric", "yAxisExpressions": [], "range": {}, "displayPoints": True,
            "lineSmoothness": 0, "useGlobalLineSmoothing": False,
        },
        {
            "type": "PARALLEL", "selectedParams": list(settings), "showAllRuns": True,
            "selectedMetrics": [CLEAN, ROBUST, LOG_LIPSCHITZ],
        },
    ]  # fmt: skip


_FLAGS = {"deleted": False, "isGenerated": False, "isReordered": False}
_CARD = {"deleted": False, "isGenerated": False, "metricSectionId": _SECTION, "runsCountToCompare": _MOST_RUNS}


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def view_links(experiment_id: str, study_id: str, /) -> tuple[str, str]:
    """Return the links to a study's table and to its charts, relative to MLflow's address."""
    table = f"#/experiments/{experiment_id}/runs?{PAGES}&viewStateShareKey={study_id}"
    return table, f"{table}&compareRunsMode=CHART"


def run_link(experiment_id: str, run_id: str, /, artifact: str = "") -> str:
    """Return the link to a run's page, or to one of its artifacts, relative to MLflow's address."""
    place = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}{place}?{PAGES}"


def set_view(client: MlflowClient, state: str, experiment_id: str, study_id: str, /) -> None:
    """Write the state of a study's view to its experiment; a server that refuses costs a line in the log."""
    with _optional("view"):
        client.set_experiment_tag(experiment_id, f"{VIEW_TAG}{study_id}", state)


def set_note(client: MlflowClient, text: str, experiment_id: str, study_id: str, /, *, run_id: str) -> None:
    """Write a study's description to its run, with links that work at any address of MLflow.

    One that a user has edited is left as it is; a server that refuses costs a line in the log.
    """
    from mlflow.entities import RunTag

    table, charts = view_links(experiment_id, study_id)
    artifacts = {"front": "figures/pareto.png", "all figures": "figures", "report": "report/report.html"}
    links = {"table of all trials": table, "charts": charts}
    links |= {name: run_link(experiment_id, run_id, artifact) for name, artifact in artifacts.items()}
    # first, as MLflow shows the start of a long note
    note = f"Open: {' · '.join(f'[{name}]({link})' for name, link in links.items())}\n\n{text}"
    with _optional("note"):
        tags = client.get_run(run_id).data.tags
        if NOTE_TAG not in tags or _digest(tags[NOTE_TAG]) == tags.get(NOTE_DIGEST):
            client.log_batch(run_id, tags=[RunTag(NOTE_TAG, note), RunTag(NOTE_DIGEST, _digest(note))])


@contextmanager
def _optional(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a study is complete without, and servers refuse in their own ways
        logger.warning("MLflow did not take the study's %s: %s", what, short(error))


def _digest(note: str) -> str:
    return hashlib.sha256(note.encode()).hexdigest()[:16]
