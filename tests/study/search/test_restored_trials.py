"""A study resumed with an older or lost storage of the search: nothing is proposed under a number that has a row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from helpers.studies.searching import row_of, study_config
from helpers.studies.trained_study import trained_study
from optuna.trial import TrialState

from analysis.data.compaction import compact
from analysis.data.results import ExistingRowsError, read_examples, trial_file
from study.directory.layout import open_config
from study.directory.seed_plan import Plan, Replica
from study.driver import tune_run
from study.driver.result_writer import ResultWriter
from study.driver.signals import StopSignals
from study.errors import UsageError
from study.search.optuna_study import enqueue, open_search, unfinished
from study.search.restored_trials import restore

CONFIG = study_config(methods=["natural", "trades"], ranges={}, start_from=None, sampler="random", num_trials=8)


def proposed(folder, config=CONFIG, count=4):
    """Return the search after some trials, all complete in it, and their rows."""
    search = open_search(config, folder)
    enqueue(search, config)
    rows = []
    for number in range(count):
        trial = search.ask()
        spec = config.trial_spec(config.space().draw(trial), number=number)
        kind = trial.user_attrs.get("proposal", "random")
        trial.set_user_attr("proposal", kind)
        rows.append(row_of(config, spec, number=number, proposal=kind))
        search.tell(trial, [0.9, 0.4])
    return search, rows


def restored(search, rows, config=CONFIG, plan=None):
    lines = restore(search, config, rows, plan=plan, remedy="do this")
    return lines, unfinished(search, {row["number"]: row for row in rows if "status" in row}, config.search)


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_trials_of_a_lost_storage_are_put_back_from_their_rows(tmp_path, sampler):
    config = study_config(**{**CONFIG.search.model_dump(), "sampler": sampler, "random_fraction": 1.0})
    before, rows = proposed(tmp_path, config)
    (tmp_path / "optuna.db").unlink()
    after = open_search(config, tmp_path)
    lines, pending = restored(after, rows, config)
    assert lines == ["Optuna's storage had no trial 00000, 00001, 00002, 00003: put back from the study's folder"]
    assert pending == []
    for old, new in zip(before.trials, after.trials, strict=True):
        method = old.params["method"]
        own = {key: value for key, value in old.params.items() if "." not in key or key.startswith(method)}
        if method == "natural":
            own.pop("train_epsilon", None)
        assert own.items() <= new.params.items()
        assert new.params.keys() >= (old.params.keys() if sampler == "gp" else own.keys())
        assert (new.state, new.values, new.user_attrs["proposal"]) == (TrialState.COMPLETE, [0.9, 0.4], "random")
    assert restored(after, rows, config) == ([], [])
    assert after.ask().number == 4


def test_an_older_storage_gets_what_it_misses_and_numbers_without_a_row_are_proposed_again(tmp_path):
    _, rows = proposed(tmp_path)
    (tmp_path / "optuna.db").unlink()
    older, _ = proposed(tmp_path, count=1)
    running = older.ask()
    CONFIG.space().draw(running)
    older.enqueue_trial({"dropout": 0.1})  # the backup was made while trial 1 ran and 2 waited
    lines, pending = restored(older, [rows[number] for number in (0, 2)])
    assert pending == [1]
    assert older.trials[2].state == TrialState.COMPLETE
    assert older.trials[2].params["dropout"] == rows[2]["param.dropout"]
    assert lines == ["Optuna's storage had no trial 00002: put back from the study's folder"]
    (tmp_path / "optuna.db").unlink()
    lost = open_search(CONFIG, tmp_path)
    assert restored(lost, [rows[0], rows[3]])[1] == []
    assert [lost.ask().number for _ in range(3)] == [1, 2, 4]


def test_a_storage_that_contradicts_the_rows_is_refused_and_unchanged(tmp_path):
    search, rows = proposed(tmp_path, count=2)
    other = {**rows[1], "param.dropout": 0.123}
    message = r"trial 00001: `dropout` is .* storage and 0\.123 in its row\ndo this"
    with pytest.raises(UsageError, match=message):
        restored(search, [rows[0], other])
    with pytest.raises(UsageError, match="rows are of study other, and `name` is quickstart in the config: restore it"):
        restored(search, [rows[0], {**rows[1], "number": 2, "study": "other"}])
    assert len(search.trials) == 2


def test_a_row_that_is_not_enough_is_refused(tmp_path):
    config = study_config(**{**CONFIG.search.model_dump(), "ranges": {"schedule": {"values": ["cosine", "constant"]}}})
    search, rows = proposed(tmp_path, config)
    assert restored(search, rows, config) == ([], [])
    (tmp_path / "optuna.db").unlink()
    with pytest.raises(UsageError, match=r"trial 00000 is not in Optuna's storage, .* is not enough: .*'schedule'"):
        restored(open_search(config, tmp_path), rows, config)


def test_start_points_put_back_are_not_queued_again(tmp_path):
    # the paper has no dropout, so that it is drawn beside each point
    changes = {"start_from": "paper", "ranges": {"dropout": [0.1, 0.4]}}
    config = study_config(**{**CONFIG.search.model_dump(), **changes})
    search, rows = proposed(tmp_path, config, count=2)
    queued = len(search.trials)
    assert {row["proposal"] for row in rows} == {"start_point"}
    (tmp_path / "optuna.db").unlink()
    lost = open_search(config, tmp_path)
    restored(lost, rows, config)
    enqueue(lost, config)
    assert len(lost.trials) == queued


def test_new_seeds_get_the_parameters_of_their_plan(tmp_path):
    search, rows = proposed(tmp_path, count=2)
    spec = {"parent": "00000", "parent_number": 0, "seed": 5, "proposal": "random", "spec": {}}
    replicas = [
        Replica(trial_id=f"00000-s{number}", repeat=number, params=search.trials[0].params, **spec) for number in (1, 2)
    ]
    (tmp_path / "optuna.db").unlink()
    lost = open_search(CONFIG, tmp_path)
    assert restored(lost, [{**rows[0], "number": 1}], plan=Plan(tuple(replicas)))[1] == []
    assert [trial.state.name for trial in lost.trials] == ["WAITING", "COMPLETE"]
    assert lost.trials[0].system_attrs["fixed_params"] == lost.trials[1].params == search.trials[0].params


def test_a_failure_that_optuna_cannot_change_is_said(tmp_path):
    search, rows = proposed(tmp_path, count=1)
    trial = search.ask()
    spec = CONFIG.trial_spec(CONFIG.space().draw(trial), number=1)
    search.tell(trial, state=TrialState.FAIL)
    lines, _ = restored(search, [*rows, row_of(CONFIG, spec, number=1)])
    assert lines == ["Optuna keeps trial 00001 as failed, where the study counts its completed row"]
    assert restored(search, [*rows, row_of(CONFIG, spec, number=1, status="failed")])[0] == []


@pytest.fixture
def opened(monkeypatch):
    """Open a study as its driver does, and return its search and the trials to run again."""
    monkeypatch.setattr(tune_run, "started_tracker", lambda *words, **options: SimpleNamespace())

    def run(folder):
        driver = tune_run._Run(open_config(folder), folder, StopSignals())
        return driver.study, driver.pending

    return run


def test_the_driver_compares_before_anything_starts_and_continues_what_only_checkpoints_hold(tmp_path, opened):
    folder = trained_study(tmp_path, "a", shared=tmp_path / "shared", trials=3)
    before = opened(folder)[0].trials
    trial_file(folder, "00001").unlink()
    trial_file(folder, "00002").unlink()
    (folder / "optuna.db").unlink()
    search, pending = opened(folder)
    assert pending == [1, 2]
    assert [trial.params for trial in search.trials] == [trial.params for trial in before]
    assert [trial.state.name for trial in search.trials] == ["COMPLETE", "RUNNING", "RUNNING"]


def test_a_row_is_never_written_where_one_is(tmp_path):
    folder = trained_study(tmp_path, "a", shared=None, trials=2)
    spec = open_config(folder).trial_spec({"method": "natural"}, number=0)
    trial = {"trial_id": "00000", "number": 0, "proposal": "random", "spec": spec.to_dict()}
    compact(folder)
    before = read_examples(folder)
    writer = ResultWriter(folder, study="a")
    outcome = SimpleNamespace(row={}, reason=None, flags=[], examples={}, best_examples={}, epochs=[{"epoch": 1}])
    with pytest.raises(ExistingRowsError, match=r"trial 00000 has a row in .*results; it was not changed"):
        writer.record(trial, outcome, status="completed", run_id=None)
    with pytest.raises(ExistingRowsError, match="trial 00000 has a row"):
        writer.record_failure(trial, reason="x", traceback="", run_id=None)
    assert read_examples(folder).equals(before)
    assert [path.name for path in (folder / "results").iterdir()] == ["compacted.parquet"]
