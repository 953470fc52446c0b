"""The searcher: its proposals, how it reports endings to Optuna, and what a resumed study proposes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import optuna
import pytest
from helpers.studies.searching import study_config
from optuna.trial import TrialState
from ray.tune.search import Searcher

from study.config.loading import load_config
from study.config.search_section import SearchConfig
from study.search.optuna_study import open_study, outcome_for_optuna, proposal_of, trial_id, unfinished
from study.search.samplers import is_random
from study.search.searcher import StillOpenError, StudySearcher
from study.search.storage import study_url

OBJECTIVES = ["val_clean_accuracy", "val_robust_accuracy"]
GOOD = {"val_clean_accuracy": 0.9, "val_robust_accuracy": 0.4, "status": "completed"}


def search(**changes):
    return SearchConfig(space="core", methods=["natural", "adversarial_training", "trades"], **changes)


SPACE = load_config("quickstart", assignments=["search.methods=[natural, adversarial_training, trades]"]).space()


@pytest.fixture
def make(tmp_path):
    def build(config=None, pending=(), *, name="study", on_disk=False):
        config = config or search()
        storage = optuna.storages.get_storage(study_url(tmp_path) if on_disk else None)
        study = open_study(storage, name, config)
        rows, told = {}, []

        def before_tell(tune_id, *, error):
            told.append((tune_id, error))
            if tune_id not in rows:
                raise StillOpenError
            return rows[tune_id]

        searcher = StudySearcher(
            study,
            space=SPACE,
            search=config,
            configure=lambda number, proposal, kind: {"number": number, "proposal": kind, "spec": dict(proposal)},
            before_tell=before_tell,
            pending=list(pending),
        )
        searcher.told_before, searcher.rows = told, rows
        return study, searcher

    return build


def finish(searcher, name, row, *, error=False):
    """Ask for a trial and end it with this result row, or without one when None."""
    config = searcher.suggest(name)
    end(searcher, name, row, error=error)
    return config


def end(searcher, name, row, *, error=False):
    if row is not None:
        searcher.rows[name] = row
    searcher.on_trial_complete(name, {"epoch": 1}, error=error)


def test_each_outcome_with_a_row_ends_its_trial(make):
    study, searcher = make()
    finish(searcher, "a", GOOD)
    finish(searcher, "b", {**GOOD, "val_robust_accuracy": math.nan})
    finish(searcher, "c", {**GOOD, "val_robust_accuracy": None})
    finish(searcher, "d", {**GOOD, "status": "failed"}, error=True)
    finish(searcher, "e", {**GOOD, "status": "stopped_early"})
    states = [trial.state for trial in study.trials]
    failed = TrialState.FAIL
    assert states == [TrialState.COMPLETE, failed, failed, failed, TrialState.PRUNED]
    assert study.trials[0].values == [0.9, 0.4]


def test_the_row_is_written_before_optuna_is_told(make):
    study, searcher = make()
    seen = []
    searcher._before_tell = lambda tune_id, *, error: seen.append(study.trials[0].state) or GOOD
    finish(searcher, "a", GOOD)
    assert seen == [TrialState.RUNNING]


def test_an_ended_trial_whose_row_was_lost_is_run_again_and_not_told_twice(make):
    study, searcher = make()
    config = finish(searcher, "a", GOOD)
    finish(searcher, "b", GOOD)
    assert unfinished(study, {1: GOOD}, search()) == [0]
    again = StudySearcher(
        study,
        space=SPACE,
        search=search(),
        configure=lambda number, proposal, kind: {"number": number, "proposal": kind, "spec": dict(proposal)},
        before_tell=lambda tune_id, *, error: {**GOOD, "val_clean_accuracy": 0.1},
        pending=[0],
    )
    assert again.suggest("x") == config
    again.on_trial_complete("x", {"epoch": 1})
    assert [trial.values for trial in study.trials] == [[0.9, 0.4]] * 2


def test_lowering_num_trials_leaves_no_trial_running(make, monkeypatch, tmp_path):
    from study.driver import tune_run

    study, searcher = make()
    finish(searcher, "a", GOOD)
    searcher.suggest("b")
    searcher.suggest("c")
    result_writer = SimpleNamespace(rows={0: GOOD}, failed=0, read=list)
    monkeypatch.setattr(tune_run, "ResultWriter", lambda study_dir, **options: result_writer)
    monkeypatch.setattr(tune_run, "open_search", lambda config, study_dir: study)
    monkeypatch.setattr(tune_run, "started_tracker", lambda *words, **options: "tracker")
    config = study_config(num_trials=1, start_from=None)
    assert tune_run.run_study(config, tmp_path) == "tracker"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "FAIL"]


def test_a_trial_without_its_row_stays_open(make):
    study, searcher = make()
    config = searcher.suggest("a")

    def lost(tune_id, *, error):
        raise StillOpenError

    searcher._before_tell = lost
    searcher.on_trial_complete("a", {"epoch": 1})
    assert study.trials[0].state == TrialState.RUNNING
    assert unfinished(study, {}, search()) == [config["number"]]


def test_no_trial_is_proposed_once_the_study_is_to_stop(make):
    study, searcher = make()
    searcher._stop_requested = lambda: True
    assert searcher.suggest("a") == Searcher.FINISHED
    assert study.trials == []


def test_unknown_and_repeated_completions_are_ignored(make):
    study, searcher = make()
    finish(searcher, "a", GOOD)
    end(searcher, "a", {**GOOD, "val_clean_accuracy": 0.1})
    end(searcher, "never seen", GOOD)
    assert [trial.values for trial in study.trials] == [[0.9, 0.4]]
    assert searcher.told_before == [("a", False)]


def test_a_driver_that_died_leaves_its_trials_to_the_next_one(make):
    study, searcher = make(on_disk=True)
    configs = [searcher.suggest(name) for name in "abcd"]
    end(searcher, "b", GOOD)

    rows = {1: GOOD, 2: {**GOOD, "status": "failed"}}  # the row of 2 was written, but Optuna was not told
    again = open_study(optuna.storages.get_storage(study._storage._backend.url), "study", search())
    pending = unfinished(again, rows, search())
    assert pending == [0, 3]
    assert again.trials[2].state == TrialState.FAIL

    _, second = make(pending=pending, on_disk=True)
    resumed = [second.suggest(name) for name in ("x", "y", "z")]
    assert resumed[:2] == [{**configs[0], "attempts": 1}, {**configs[3], "attempts": 1}]
    assert resumed[2]["number"] == 4
    for name in "xyz":
        end(second, name, GOOD)
    states = [
        trial.state
        for trial in open_study(optuna.storages.get_storage(study._storage._backend.url), "study", search()).trials
    ]
    assert TrialState.RUNNING not in states
    assert len(states) == 5


def test_a_resumed_search_does_not_repeat_its_first_proposals(make):
    _, first = make(search(random_fraction=0.0), on_disk=True)
    early = [first.suggest(name)["spec"] for name in "abc"]
    _, second = make(search(random_fraction=0.0), on_disk=True)
    assert not [spec for spec in (second.suggest(name)["spec"] for name in "xyz") if spec in early]


FLOOR = ["val_clean_accuracy >= 0.8"]


def dropout_decides(dropout):
    """More dropout means more robust and less accurate: the floor of 0.8 requires dropout below 0.2."""
    return {**GOOD, "val_clean_accuracy": 1 - dropout, "val_robust_accuracy": dropout}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3"])
def test_constraints_move_the_search_and_optunas_own_front(make, sampler):
    inside = {}
    for name, constraints in (("free", []), ("floor", FLOOR)):
        study, searcher = make(
            search(sampler=sampler, constraints=constraints, random_fraction=0.0), name=f"{sampler}-{name}"
        )
        for number in range(120):
            config = searcher.suggest(str(number))
            end(searcher, str(number), dropout_decides(config["spec"]["dropout"]))
        late = [trial.params["dropout"] < 0.2 for trial in study.trials[60:]]
        inside[name] = sum(late) / len(late)
        if constraints:
            assert study.trials[0].constraints == {FLOOR[0]: pytest.approx(0.8 - study.trials[0].values[0])}
            assert min(trial.values[0] for trial in study.best_trials) >= 0.8
    assert inside["floor"] > inside["free"] + 0.2


def test_only_complete_trials_carry_constraints(make):
    study, searcher = make(search(constraints=FLOOR))
    finish(searcher, "a", GOOD)
    finish(searcher, "b", {**GOOD, "status": "stopped_early"})
    finish(searcher, "c", {**GOOD, "status": "failed"})
    assert [trial.constraints for trial in study.trials] == [{FLOOR[0]: pytest.approx(-0.1)}, {}, {}]
    unmeasured = search(constraints=["val_lipschitz_mean <= 10"])
    assert outcome_for_optuna(unmeasured, GOOD).state == TrialState.FAIL


def test_a_driver_that_died_between_constraints_and_tell(make):
    config = search(constraints=FLOOR)
    study, searcher = make(config)
    searcher.suggest("a")
    searcher._ot_trials["a"].set_constraint(FLOOR[0], -0.1)
    assert unfinished(study, {0: GOOD}, config) == []
    assert study.trials[0].state == TrialState.COMPLETE


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.25, 1 / 3, 1.0])
def test_the_random_share_is_exact_and_spread(fraction):
    marks = [is_random(number, fraction=fraction) for number in range(240)]
    assert abs(sum(marks) - 240 * fraction) <= 1
    assert abs(sum(marks[:60]) - 60 * fraction) <= 1


def test_random_proposals_are_marked_and_do_not_depend_on_results(make, tmp_path):
    def proposals(name, accuracy):
        study, searcher = make(search(random_fraction=0.25), name=name)
        random = {}
        for number in range(40):
            config = searcher.suggest(str(number))
            if config["proposal"] == "random":
                random[number] = config["spec"]
            row = {"val_clean_accuracy": accuracy(number), "val_robust_accuracy": 0.5, "status": "completed"}
            end(searcher, str(number), row)
        marked = [trial.number for trial in study.trials if trial.user_attrs["proposal"] == "random"]
        assert marked == list(random)
        return random

    first = proposals("first", lambda number: number / 40)
    second = proposals("second", lambda number: 1 - number / 40)
    assert len(first) == 10
    assert first == second


def test_a_trials_proposal_can_be_read_back(make):
    study, searcher = make()
    config = searcher.suggest("a")
    assert proposal_of(study, SPACE, 0) == config["spec"]


def test_another_studys_storage_is_refused(make):
    from study.errors import UsageError

    make(on_disk=True)
    with pytest.raises(UsageError, match="other objectives"):
        make(search(objectives=["val_clean_accuracy", "val_lipschitz_scale_free_log10"]), on_disk=True)


def test_an_outcome_may_have_three_objectives():
    row = {**GOOD, "val_lipschitz_scale_free_mean": 10.0}
    outcome = outcome_for_optuna(search(objectives=[*OBJECTIVES, "val_lipschitz_scale_free_log10"]), row)
    assert outcome.state == TrialState.COMPLETE
    assert outcome.values == [0.9, 0.4, pytest.approx(1.0)]


def test_trial_ids_sort_as_their_numbers():
    assert [trial_id(number) for number in (0, 42, 99999)] == ["00000", "00042", "99999"]


def test_the_storage_opens_with_plain_optuna(make, tmp_path):
    _, searcher = make(on_disk=True)
    finish(searcher, "a", GOOD)
    loaded = optuna.load_study(study_name="study", storage=study_url(tmp_path))
    assert loaded.best_trials[0].values == [0.9, 0.4]
    assert loaded.metric_names == OBJECTIVES
