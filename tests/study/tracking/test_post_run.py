"""What a study's parent run holds at the end, and what commands add to it afterwards."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from helpers.services.stub_server import stub_server
from helpers.studies.synthetic_results import as_table
from helpers.studies.tracked import row, run_trial, tracker

from study.directory.layout import open_config
from study.errors import UsageError
from study.lifecycle.publish import publish
from study.reports.figures import draw_all
from study.reports.report import write_report
from study.tracking.post_run import track_tested
from study.tracking.row_mapping import TRIAL_TAG, tags
from study.tracking.study_metadata import dataset_event
from study.tracking.ui import serve
from trainables.data import load_dataset
from trainables.evaluation.flags import FLAGS
from trainables.spec import DatasetSpec

ROWS = [row(0), row(1, val_clean_accuracy=0.8, val_robust_accuracy=0.6)]


@pytest.fixture(scope="module")
def store(tmp_path_factory, empty_store):
    """The client of a store with an experiment for each test, and the store's file."""
    from study.tracking.client import connect

    path = Path(shutil.copy(empty_store, tmp_path_factory.mktemp("later") / "mlflow.db"))
    return connect(f"sqlite:///{path}"), path


@pytest.fixture
def study(tmp_path, store, request):
    """A tracked study that has ended, for one test; the client."""
    client, path = store
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.yaml").write_text(
        "{name: s, dataset: {name: digits}, search: {space: core}, "
        f"tracking: {{uri: 'sqlite:///{path}', experiment: {request.node.name}, models: 0}}}}"
    )
    tracking = open_tracker(folder)
    tracking.start({}, {"study": "s"})
    for trial in ROWS:
        run_trial(tracking, folder, trial)
    assert tracking.close("FINISHED", timeout=120) is None
    return folder, client


def open_tracker(folder):
    config = open_config(folder).tracking
    return tracker(folder, config.uri, experiment=config.experiment)


def on_parent(study, artifact_folder):
    """Names of the parent run's artifacts in a folder; checks that the run is closed."""
    folder, client = study
    experiment = client.get_experiment_by_name(open_config(folder).tracking.experiment)
    (parent,) = client.search_runs([experiment.experiment_id], f"tags.`{TRIAL_TAG}` = 'study'")
    assert parent.info.status == "FINISHED"
    return [item.path.rpartition("/")[2] for item in client.list_artifacts(parent.info.run_id, artifact_folder)]


def ended(folder, **options):
    tracking = open_tracker(folder)
    tracking.start({}, {"study": "s"})
    publish(open_config(folder), folder, as_table(ROWS), tracker=tracking, **options)
    return tracking.close("FINISHED", timeout=120)


def test_the_report_and_every_figure_are_artifacts_of_the_studys_run_when_it_ends(study):
    folder, _ = study
    (folder / "figures").mkdir()
    for name in ("pareto.png", "slice_dropout.png", "table.tex"):
        (folder / "figures" / name).write_bytes(b"drawn")
    assert ended(folder, hurried=True) is None
    assert (on_parent(study, "report"), on_parent(study, "front")) == ([], ["front.csv", "front.parquet"])
    (folder / "report.html").write_text("of fewer trials")
    assert ended(folder) is None
    assert on_parent(study, "report") == ["report.html"]
    assert on_parent(study, "figures") == ["pareto.png", "slice_dropout.png", "table.tex"]
    assert "00001" in (folder / "report.html").read_text()


def test_a_report_that_cannot_be_written_costs_only_a_line(study, monkeypatch, capsys):
    folder, _ = study

    def fail(study_dir):
        raise MemoryError("too large")

    monkeypatch.setattr("study.lifecycle.publish.report_page", fail)
    assert ended(folder) is None
    notes = " ".join(capsys.readouterr().err.split())
    problem = "the report could not be written (MemoryError: too large)"
    assert f"{problem}; write it with: robust-study report {folder}" in notes
    assert on_parent(study, "front") == ["front.csv", "front.parquet"]


@pytest.mark.long
def test_report_and_figures_upload_what_they_write_to_the_studys_folder(study, tmp_path, monkeypatch):
    folder, _ = study

    def drawn(material, out, **options):
        out.mkdir(exist_ok=True)
        (out / "slice.png").write_bytes(b"drawn")
        return [out / "slice.png"]

    monkeypatch.setattr("analysis.plots.studies.study_figures.write_paper_figures", drawn)
    write_report([folder], out=tmp_path / "elsewhere.html")
    draw_all(folder, formats=["png"], width="column", out=tmp_path / "elsewhere")
    assert (on_parent(study, "report"), on_parent(study, "figures")) == ([], [])
    write_report([folder], out=None)
    draw_all(folder, formats=["png"], width="column", out=None)
    assert (on_parent(study, "report"), on_parent(study, "figures")) == (["report.html"], ["slice.png"])


def test_test_values_reach_the_runs_of_their_trials_with_the_number_of_images(study, monkeypatch):
    folder, client = study
    experiment = client.get_experiment_by_name(open_config(folder).tracking.experiment).experiment_id
    values = {"test_robust_accuracy": 0.4, "test_examples": 60.0}
    monkeypatch.setattr("study.tracking.post_run.tracked_metrics", lambda result, rows, study_dir: values)
    track_tested(open_config(folder), folder, ROWS[:1], [])
    metrics = {run.data.tags[TRIAL_TAG]: run.data.metrics for run in client.search_runs([experiment])}
    assert values.items() <= metrics["00000"].items()
    assert not values.keys() & metrics["00001"].keys()


def test_a_store_that_was_deleted_is_not_created_again_by_report_or_ui(study, tmp_path, capsys):
    folder, _ = study
    gone = tmp_path / "gone.db"
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.replace(open_config(folder).tracking.uri, f"sqlite:///{gone}"))
    write_report([folder], out=None)
    notes = " ".join(capsys.readouterr().err.split())
    assert (
        f"MLflow is missing the report, since {gone} does not exist; create it with: robust-study sync {folder}"
        in notes
    )
    assert not gone.exists()
    with pytest.raises(UsageError, match=f"gone.db does not exist: create it again with: robust-study sync {folder}"):
        serve(folder, port=None)


@pytest.mark.long
def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(study, tmp_path):
    folder, client = study
    name = open_config(folder).tracking.experiment
    experiment = client.get_experiment_by_name(name).experiment_id
    client.delete_experiment(experiment)
    tracking = open_tracker(folder)
    tracking.start({}, {"study": "s"})
    problem = tracking.close("FINISHED", timeout=3)
    assert f"experiment {name!r} was deleted: restore it with" in problem
    assert f"mlflow experiments restore --experiment-id {experiment}`" in problem


def test_the_docs_filter_for_doubted_measurements_finds_every_flag_and_nothing_else(store):
    client, _ = store
    text = (Path(__file__).parents[3] / "docs/tracking.md").read_text()
    (query,) = re.findall(r"^\| trials whose measurement is doubted \| `(.+)` \|$", text, flags=re.MULTILINE)
    experiment = client.create_experiment("flags")
    for flag in FLAGS:
        client.create_run(experiment, tags=tags(row(0, flags=[flag])), run_name=flag)
    client.create_run(experiment, tags=tags(row(0, flags=[])), run_name="sound")
    client.create_run(experiment, tags=tags(row(0, status="failed", flags=None)), run_name="failed")
    assert {run.info.run_name for run in client.search_runs([experiment], filter_string=query)} == set(FLAGS)


def test_test_images_are_counted_though_they_are_not_loaded():
    data = load_dataset(DatasetSpec(name="digits"))
    for loaded in (data, data.without_test()):
        profile = dataset_event(loaded)["profile"]
        assert {split: profile[split] for split in ("train", "val", "test")} == {"train": 1293, "val": 144, "test": 360}


def test_a_token_of_the_environment_reaches_the_server_and_nothing_else(tmp_path, monkeypatch):
    from study.tracking.client import connect

    for part in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{part}", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-token")
    with stub_server(authorization="Bearer secret-token") as server:
        assert connect(server.uri).search_experiments() == []
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-but-old")
        monkeypatch.setattr("study.tracking.uploader.GIVE_UP_SECONDS", 0.5)
        folder = tmp_path / "study"
        folder.mkdir()
        tracking = tracker(folder, server.uri)
        tracking.start({}, {"study": "s"})
        problem = tracking.close("FINISHED", timeout=20)
    assert {sent for _, sent in server.requests} == {"Bearer secret-token", "Bearer secret-but-old"}
    assert "error code 401" in problem
    assert "secret" not in problem + "".join(file.read_text() for file in folder.rglob("*") if file.is_file())
