"""Two studies of one name in one experiment of MLflow, at once: their ids tell their runs apart."""

from __future__ import annotations

import shutil

import pytest
from helpers.studies.tracked import close, report, row, run_trial, tracker
from mlflow import MlflowClient

from analysis.data.results import read_examples, read_results
from study.config.loading import write_yaml
from study.tracking.export import export
from study.tracking.post_run import add_files
from study.tracking.row_mapping import ON_FRONT, PARENT_TAG, STUDY_TAG, TRIAL_TAG
from study.tracking.ui import _pages

SEEDS = {"a": 7, "b": 8}


@pytest.fixture(scope="module")
def two(tmp_path_factory, empty_store):
    """Return the URI of a store and the folders of two studies `s`, by id, that both wrote to it at once.

    `b` was stopped after its first trial, resumed and sent again from its start, as `sync` does.
    """
    root = tmp_path_factory.mktemp("two")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    shutil.copy(empty_store, root / "mlflow.db")
    folders = {study_id: root / study_id / "s" for study_id in SEEDS}
    config = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}, "tracking": {"uri": uri}}
    trackers = {}
    for study_id, folder in folders.items():
        write_yaml(folder / "study.yaml", config)
        trackers[study_id] = tracker(folder, uri, study_id=study_id)
    for study_id, tracking in trackers.items():
        tracking.start({}, {"study": "s", "marker": study_id})
        run_trial(tracking, folders[study_id], row(0, seed=SEEDS[study_id]))
    for study_id, tracking in trackers.items():
        report(tracking, row(1, seed=SEEDS[study_id] + 10), upto=1)
    assert close(trackers["b"], "KILLED", reason="stopped") is None
    resumed = trackers["b"] = tracker(folders["b"], uri, study_id="b", from_start=True)
    resumed.start({}, {"study": "s"})
    for study_id, tracking in trackers.items():
        run_trial(tracking, folders[study_id], row(1, seed=SEEDS[study_id] + 10))
        tracking.front(["00000"] if study_id == "a" else ["00001"])
        assert close(tracking) is None
    for study_id, folder in folders.items():
        (folder / "report.html").write_text(str(folder))
        add_files(folder, [folder / "report.html"], "report")
        measuring = tracker(folder, uri, study_id=study_id)
        measuring.measured({"00000": {"test_clean_accuracy": SEEDS[study_id] / 10}})
        assert close(measuring, None) is None
    return uri, folders


@pytest.fixture
def runs(two):
    client = MlflowClient(tracking_uri=two[0])
    experiment = client.get_experiment_by_name("robust-study").experiment_id
    return {(run.data.tags[STUDY_TAG], run.data.tags[TRIAL_TAG]): run for run in client.search_runs([experiment])}


def test_each_has_its_own_runs_values_front_and_report(two, runs, tmp_path):
    uri, folders = two
    assert sorted(runs) == [(name, trial) for name in "ab" for trial in ("00000", "00001", "study")]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for (study_id, trial), run in runs.items():
        own = runs[study_id, "study"]
        if trial == "study":
            assert (run.data.tags["study"], run.data.tags["marker"]) == ("s", study_id)
            path = MlflowClient(tracking_uri=uri).download_artifacts(
                run.info.run_id, "report/report.html", str(tmp_path)
            )
            assert open(path, encoding="utf-8").read() == str(folders[study_id])
        else:
            assert run.data.tags[PARENT_TAG] == own.info.run_id
            assert run.data.params["seed"] == str(SEEDS[study_id] + 10 * int(trial))
            assert (run.data.tags.get(ON_FRONT) == "true") == (trial == {"a": "00000", "b": "00001"}[study_id])
    assert [runs[name, "00000"].data.metrics["test_clean_accuracy"] for name in "ab"] == [0.7, 0.8]


def test_ui_opens_the_run_of_the_folder_it_is_given(two, runs):
    for study_id, folder in two[1].items():
        assert f"/runs/{runs[study_id, 'study'].info.run_id}?" in _pages(folder).links["run"]


@pytest.mark.parametrize("deleted", [False, True])
def test_export_takes_one_of_them_also_when_its_own_run_was_deleted(two, runs, tmp_path, capsys, deleted):
    uri, folders = two
    client, out = MlflowClient(tracking_uri=uri), tmp_path / "rows.parquet"
    own = runs["a", "study"].info.run_id
    if deleted:
        client.delete_run(own)
    try:
        for study_id, folder in folders.items():
            export(None, uri=uri, experiment="robust-study", out=out, study=study_id)
            assert str(read_results(out).to_pylist()) == str(read_results(folder).to_pylist())
            assert read_examples(tmp_path / "rows.examples.parquet").num_rows == 2
        capsys.readouterr()
        export(None, uri=uri, experiment="robust-study", out=out)
        assert read_results(out)["seed"].to_pylist() == [8, 18]
        assert "skipped: an older study s; --study a exports it" in " ".join(capsys.readouterr().err.split())
    finally:
        if deleted:
            client.restore_run(own)
