"""The view of MLflow's runs page, its links, and the description on the study's run."""

from __future__ import annotations

import json
import logging
import re

import pytest
from helpers.studies.synthetic_results import as_table
from helpers.studies.tracked import STUDY_ID, close, row, run_study, run_trial, runs, tracker

from study.config.schema import parse_config
from study.directory.standing import Standing
from study.lifecycle.study_note import FILTERS, MOST_CHARACTERS, MOST_MEMBERS, study_note
from study.tracking.client import PAGE
from study.tracking.row_mapping import FRONT_PLACE, STUDY_TAG, along_front, front_tags, metrics, params, tags
from study.tracking.shared_view import NOTE_TAG, VIEW_TAG, view_links, view_state
from study.tracking.study_metadata import settings_of_all_trials
from study.tracking.tracker import Tracker
from study.tracking.ui import serve
from trainables.methods import METHODS

SHORTEST_LIMIT = 5000
"""Longest tag of an experiment in servers before MLflow 3.17, characters."""


def config_of(**search):
    return parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core", **search}})


def state(settings=("param.dropout",)):
    return json.loads(view_state(study="s", study_id=STUDY_ID, settings=settings))


def view_tags(client):
    (experiment,) = [one for one in client.search_experiments() if one.name == "robust-study"]
    return {name: text for name, text in experiment.tags.items() if name.startswith(VIEW_TAG)}


def tracked(uri, folder, *, members=(), note=None, **options):
    """Track a study as the driver does, with its view and its note."""
    tracking = tracker(folder, uri, **options)
    tracking.start({}, {"study": "s"})
    tracking.view(["param.dropout"])
    for trial in [row(0, val_clean_accuracy=0.7), row(1, val_clean_accuracy=0.9)]:
        run_trial(tracking, folder, trial)
    tracking.front(members)
    if note is not None:
        tracking.note(note)
    return close(tracking)


def test_every_column_and_axis_of_the_view_is_written_to_runs():
    trial = row(0, **{"param.dropout": 0.1, "train_epsilon": 0.1, "param.beta": 6.0, "flags": ["a"]})
    written = {
        "metrics": metrics(trial).keys(),
        "params": params(trial).keys(),
        "tags": {*tags(trial), *front_tags("00000", ["00000"]), STUDY_TAG},
    }
    shown = state(["param.dropout", "train_epsilon"])
    columns = [re.fullmatch(r"(\w+)\.`(.+)`", column).groups() for column in shown["selectedColumns"]]
    assert 7 <= len(columns) <= 15
    columns += [re.fullmatch(r"(\w+)\.`(.+)`", shown["orderByKey"]).groups()]
    assert [name for kind, name in columns if name not in written[kind]] == []
    for name in ("method", "strength", "param.dropout", "train_epsilon", "val_lipschitz_mean"):
        assert name in [column for _, column in columns]
    axes = set()
    for chart in shown["compareRunCharts"]:
        axes |= {chart[axis]["key"] for axis in ("xaxis", "yaxis") if axis in chart}
        axes |= {*chart.get("selectedMetrics", [])}
        assert {*chart.get("selectedParams", [])} <= written["params"]
    assert axes <= written["metrics"]
    assert axes >= {"val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_log10"}
    assert [chart["type"] for chart in shown["compareRunCharts"]] == ["SCATTER", "SCATTER", "LINE", "PARALLEL"]


def test_the_hypervolume_chart_names_a_metric_of_the_parent_run(tmp_path):
    (line,) = [chart for chart in state()["compareRunCharts"] if chart["type"] == "LINE"]
    assert line["metricKey"] in Standing().metrics()


def test_the_largest_view_fits_in_a_tag_of_every_server():
    settings = settings_of_all_trials(config_of(methods=list(METHODS)))
    text = view_state(study="s" * 100, study_id="0" * 32, settings=settings)
    assert len(text) < SHORTEST_LIMIT


def test_parallel_coordinates_have_the_settings_of_all_trials_only():
    assert settings_of_all_trials(config_of(methods=["natural", "trades"])) == ["param.dropout"]
    assert settings_of_all_trials(config_of(methods=["trades"])) == ["param.dropout", "train_epsilon"]


def test_each_study_has_a_view_and_those_of_users_are_left_alone(uri, folder, tmp_path):
    assert tracked(uri, folder) is None
    client = runs(uri)[1]
    client.set_experiment_tag("1", f"{VIEW_TAG}of-a-user", "{}")
    (tmp_path / "second").mkdir()
    for _ in range(2):  # the second time as a resumed study does
        assert tracked(uri, tmp_path / "second", study_id="second") is None
    written = view_tags(client)
    assert written.keys() == {f"{VIEW_TAG}{name}" for name in (STUDY_ID, "second", "of-a-user")}
    assert written[f"{VIEW_TAG}of-a-user"] == "{}"
    for study_id in (STUDY_ID, "second"):
        query = json.loads(written[f"{VIEW_TAG}{study_id}"])["searchFilter"]
        found = client.search_runs(["1"], filter_string=query)
        assert {run.data.tags[STUDY_TAG] for run in found} == {study_id}
        assert len(found) == 3


def test_the_front_comes_first_then_the_study_then_the_others(uri, folder):
    assert tracked(uri, folder, members=["00000", "00001"]) is None
    client = runs(uri)[1]

    def names():
        found = client.search_runs(["1"], order_by=[f"{state()['orderByKey']} ASC"], max_results=PAGE)
        return [run.info.run_name for run in found]

    assert names() == ["00001 trades", "00000 trades", "s"]
    assert tracked(uri, folder, members=["00000"]) is None
    assert names() == ["00000 trades", "s", "00001 trades"]
    client.delete_tag(client.search_runs(["1"], "tags.on_front = 'true'")[0].info.run_id, FRONT_PLACE)
    assert tracked(uri, folder, members=["00000"], from_start=True) is None
    assert names() == ["00000 trades", "s", "00001 trades"]


def test_places_along_the_front_are_in_the_order_of_their_text():
    members = [f"{number:05d}" for number in range(120)]
    clean = {trial: number / 120 for number, trial in enumerate(members)}
    along = along_front(members, clean)
    places = [front_tags(trial, along)[FRONT_PLACE] for trial in along]
    assert (along[0], along[-1]) == ("00119", "00000")
    assert places == sorted(places)
    assert places[-1] < front_tags("study", along)[FRONT_PLACE]


def test_a_note_is_renewed_until_a_user_edits_it(uri, folder):
    for text in ("of 2 trials", "of 4 trials"):
        assert tracked(uri, folder, note=text) is None
        parent, client = runs(uri)[0]["study"], runs(uri)[1]
        assert text in parent.data.tags[NOTE_TAG]
    for link in view_links("1", STUDY_ID):
        assert f"({link})" in parent.data.tags[NOTE_TAG]
    client.set_tag(parent.info.run_id, NOTE_TAG, "mine")
    assert tracked(uri, folder, note="of 6 trials", from_start=True) is None
    assert runs(uri)[0]["study"].data.tags[NOTE_TAG] == "mine"


def test_a_server_that_takes_neither_view_nor_note_costs_two_lines_of_the_log(uri, folder, monkeypatch, caplog):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def refuse(*_, **__):
        raise MlflowException("not yours", error_code=PERMISSION_DENIED)

    real = MlflowClient.log_batch

    def without_notes(self, run_id, **logged):
        if any(tag.key == NOTE_TAG for tag in logged["tags"]):
            refuse()
        real(self, run_id, **logged)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    monkeypatch.setattr(MlflowClient, "log_batch", without_notes)
    with caplog.at_level(logging.WARNING, logger="study"):
        assert tracked(uri, folder, note="of 2 trials") is None
    assert [record.getMessage().partition(":")[0] for record in caplog.records if record.name.startswith("study")] == [
        "MLflow did not take the study's view",
        "MLflow did not take the study's note",
    ]


def test_a_note_has_counts_front_and_filters_and_fits_in_a_tag():
    rows = [row(number, val_clean_accuracy=0.5 + number / 100, val_robust_accuracy=0.5 - number / 100, study="s" * 60)
            for number in range(40)]  # fmt: skip
    text = study_note(config_of(), as_table([*rows, row(40, status="failed", val_robust_accuracy=None)]))
    assert "41 of 100 trials are done, 1 failed and 0 flagged" in text
    assert f"Front on validation: 40 members, {MOST_MEMBERS} of them" in text
    assert len(re.findall(r"^\| 000\d\d \|", text, flags=re.MULTILINE)) == MOST_MEMBERS
    assert all(f"`{query}`" in text for query in FILTERS)
    assert len(text) < MOST_CHARACTERS
    assert "There is no front: " in study_note(config_of(), as_table([row(0, status="failed")]))


def test_the_filters_in_a_note_are_understood_beside_the_views(uri, folder):
    assert run_study(uri, folder, [row(0), row(1, status="failed", val_robust_accuracy=None)]) is None
    client, own = runs(uri)[1], state()["searchFilter"]
    found = [len(client.search_runs(["1"], filter_string=f"{own} and {query}")) for query in FILTERS]
    assert found == [0, 1, 1]


@pytest.mark.parametrize(
    ("address", "shown"),
    [("http://127.0.0.1:1/", "http://127.0.0.1:1"), ("sqlite:///none.db", "http://127.0.0.1:5000")],
)
def test_the_links_are_given_once_when_the_store_has_answered(address, shown, folder, monkeypatch):
    class Opened:
        """A store that has answered."""

        experiment_id = "7"

    given = []
    tracking = Tracker(study="s", study_id=STUDY_ID, study_dir=folder, uri=address)
    monkeypatch.setattr(tracking._uploader, "start", lambda: None)
    monkeypatch.setattr("study.tracking.store.Store", lambda **_: Opened())
    tracking.start({}, {}, on_open=lambda *links: given.append(links))
    for _ in range(2):
        tracking._open_store()
    tracking._spool.close()
    assert given == [tuple(f"{shown}/{link}" for link in view_links("7", STUDY_ID))]


@pytest.mark.parametrize("named", [True, False])
def test_ui_prints_and_opens_the_views_of_a_study_or_of_the_newest(named, uri, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("study.tracking.ui.is_server", lambda _: True)  # so that nothing is served
    monkeypatch.setattr("study.tracking.ui.default_uri", lambda: uri)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    (folder / "study.yaml").write_text(
        f"{{name: s, dataset: {{name: digits}}, search: {{space: core}}, tracking: {{uri: '{uri}'}}}}"
    )
    assert tracked(uri, folder) is None
    if not named:  # a confirmation is newer, but no study of its own
        (tmp_path / "confirm").mkdir()
        assert tracked(uri, tmp_path / "confirm", study_id="new-seeds", parent_study_id=STUDY_ID) is None
    serve(folder if named else None, port=None)
    table, charts = (f"{uri}/{link}" for link in view_links("1", STUDY_ID))
    printed = capsys.readouterr().out
    assert f"table:  {table}\n" in printed
    assert f"charts: {charts}\n" in printed
    assert re.search(r"run:    \S+/#/experiments/1/runs/\w+\?", printed)
    assert opened == [table, charts]


def test_ui_opens_the_run_of_a_study_without_a_view(uri, folder, monkeypatch, capsys):
    monkeypatch.setattr("study.tracking.ui.is_server", lambda _: True)
    monkeypatch.setattr("study.tracking.ui.default_uri", lambda: uri)
    assert run_study(uri, folder, [row(0)]) is None
    serve(None, port=None)
    printed = capsys.readouterr().out
    assert "run: " in printed
    assert "viewStateShareKey" not in printed
