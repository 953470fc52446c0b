"""Runs as MLflow has them: finding them, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from study.tracking.rows import row_from_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUS = {"completed": "FINISHED", "stopped_early": "FINISHED", "failed": "FAILED"}
"""MLflow's status of a trial's run."""
OPEN = ("RUNNING", "SCHEDULED")
PAGE = 1000


def runs_of(client: MlflowClient, experiment: str, query: str, /) -> Iterator[Run]:
    """Yield the runs of an experiment that a filter finds, page by page, the oldest first."""
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
    """What is known of a run in the store.

    Attributes:
        run_id: MLflow's id.
        status: MLflow's status of it.
        row: Its trial's result row, where it has a whole one.
        params: Its parameters.
        tags: Its tags.
        metrics: Its metrics' latest values.
        steps: By metric the epochs it has points at, as far as asked for.
        waiting: Metrics of epochs to be sent with the next batch: step to time and values.
        doubted: Whether the read-back found something amiss, so that every part of it is looked at.
    """

    run_id: str
    status: str = "RUNNING"
    row: dict[str, Any] | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    steps: dict[str, set[int]] = field(default_factory=dict)
    waiting: dict[int, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    doubted: bool = False

    def last_step(self, metric: str, /) -> int:
        """Return the last epoch at which a metric is known to have a point; 0 where none is."""
        return max(self.steps.get(metric) or self.steps.get("epoch") or (0,)) if metric in self.metrics else 0


def known(run: Run, /) -> TrackedRun:
    """Return what a run that was found says of itself."""
    data = run.data
    return TrackedRun(
        run.info.run_id,
        status=run.info.status,
        row=whole_row(run),
        params=dict(data.params),
        tags=dict(data.tags),
        metrics=dict(data.metrics),
    )


def whole_row(run: Run, /) -> dict[str, Any] | None:
    """Return the result row that a run holds; None where it holds none, or a damaged one."""
    try:
        return row_from_tags(run.data.tags)
    except ValueError:
        return None
