"""Measurements of one command: a failure of one is a line, and what measures them is closed with the command."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest

from study.cluster.findings import driver_port
from study.cluster.resources import Node
from study.config.loading import load_config
from study.errors import UsageError
from study.evaluation import jobs
from study.evaluation.jobs import MeasurementJob, run_jobs
from trainables.evaluation.checkpoint import MeasurementSpec

CONFIG = load_config({"name": "toy", "dataset": {"name": "digits"}, "search": {"space": "core", "num_trials": 8}})
SPEC = MeasurementSpec(
    checkpoint="last.pt", trial=CONFIG.trial_spec({"method": "natural"}, number=0), attack="pgd", norm="linf",
    epsilon=0.1, steps=1, restarts=1, examples=4, checks="cheap", lipschitz=None,
)  # fmt: skip


@pytest.fixture
def two(tmp_path):
    return [
        MeasurementJob(folder=tmp_path, row={"trial_id": trial}, checkpoint="last", chosen_by="trial", spec=SPEC)
        for trial in ("00000", "00001")
    ]


def test_an_error_without_a_text_is_named_by_its_kind_and_stops_no_other_measurement(two, monkeypatch):
    def fail(*_, **__):
        raise next(errors)

    errors = iter([AssertionError(), ValueError("no such layer")])
    monkeypatch.setattr(jobs, "measure_checkpoint", fail)
    problems = run_jobs(two, config=CONFIG, data=None, address=None)
    assert problems == [f"{two[0].key}: AssertionError", f"{two[1].key}: ValueError: no such layer"]


def test_the_session_on_a_cluster_ends_when_a_row_cannot_be_written(two, monkeypatch):
    events = []

    @contextmanager
    def session():
        try:
            yield
        finally:
            events.append("closed")

    def on_cluster(todo, data, **_):
        with session():
            for job in todo:
                yield job, object()

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(jobs, "_on_cluster", on_cluster)
    monkeypatch.setattr(jobs, "record", full)
    with pytest.raises(OSError, match="no space left") as caught:
        run_jobs(two, config=CONFIG, data=None, address="auto")
    assert events == ["closed"]
    # the error's frames still hold the generator, so it was not closed by being collected
    assert "measured" in caught.traceback[1].frame.f_locals


def test_a_node_that_cannot_fetch_the_images_ends_the_command(two, monkeypatch):
    node = Node("a", "A", {"CPU": 1})
    monkeypatch.setattr("study.cluster.session.ray_session", lambda config: nullcontext())
    monkeypatch.setattr("study.cluster.connection.nodes", lambda: [node])
    monkeypatch.setattr("study.cluster.node_survey.reaching_driver", lambda nodes: [driver_port("A", "it hangs")])
    with pytest.raises(UsageError, match=r"^node A cannot fetch an object from the driver \(it hangs\)"):
        run_jobs(two, config=CONFIG, data=None, address="10.0.0.1:6379")
