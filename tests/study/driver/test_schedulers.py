"""Every scheduler, called as Ray does in a study: reports, stops, ends, errors, removals, copies, resumption."""

from __future__ import annotations

import math
import pickle
import random
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.tune.schedulers import FIFOScheduler

from study.config.early_stopping import SCHEDULERS
from study.config.schema import parse_config
from study.driver import schedulers
from study.driver.schedulers import START_SECONDS, NoStopping, build_scheduler, resumed_scheduler

EPOCHS = 12
SECTIONS = {
    "none": {"name": "none"},
    "moasha": {"name": "moasha", "grace_period": 2},
    "asha": {"name": "asha", "metric": "val_robust_accuracy", "grace_period": 2},
    "median": {"name": "median", "metric": "val_lipschitz_scale_free_log10", "grace_period": 2},
}


def config(section, *, every=2):
    return parse_config(
        {
            "name": "s",
            "dataset": {"name": "digits"},
            "training": {"epochs": EPOCHS},
            "evaluation": {"every": every},
            "search": {"space": "core"},
            "scheduler": section,
        }
    )


def trial(number, name="tune"):
    return SimpleNamespace(trial_id=f"{name}-{number}", config={"trial_id": f"{number:05d}"})


def report(epoch, quality, *, status="running", **changes):
    """An epoch's report of a trial whose every objective is `quality`."""
    return {
        "epoch": epoch,
        "training_iteration": 1,
        "stale": epoch % 2 > 0,
        "status": status,
        "val_clean_accuracy": quality,
        "val_robust_accuracy": quality,
        "val_lipschitz_mean": 2 - quality if quality is not None else None,
        "val_lipschitz_scale_free_mean": 2 - quality if quality is not None else None,
    } | changes


def run(scheduler, number, quality, *, epochs=EPOCHS, first=1, name="tune", **changes):
    """Report a trial as Tune does until it ends, and return the epoch it was stopped at, None when it was not."""
    handle = trial(number, name)
    scheduler.on_trial_add(None, handle)
    for epoch in range(first, epochs + 1):
        result = report(epoch, quality, **changes)
        if epoch == EPOCHS:
            result["status"] = "completed"
        elif scheduler.on_trial_result(None, handle, result) == "STOP":
            scheduler.on_trial_complete(None, handle, result)
            return epoch
    if epochs == EPOCHS:
        scheduler.on_trial_complete(None, handle, result)
    return None


@pytest.fixture(params=SCHEDULERS)
def name(request):
    return request.param


@pytest.fixture
def scheduler(name):
    return build_scheduler(config(SECTIONS[name]))


def good_then_bad(scheduler, *, name="tune", first=0):
    return [run(scheduler, number, 0.9 if number < 8 else 0.2, name=name) for number in range(first, 16)]


def test_the_list_of_schedulers_is_the_list_tested():
    assert set(SECTIONS) == set(SCHEDULERS)


def test_bad_trials_are_stopped_at_a_measured_epoch_after_the_grace_period_and_the_best_never(name, scheduler):
    stopped = good_then_bad(scheduler)
    assert stopped[:8] == [None] * 8
    if name == "none":
        assert stopped == [None] * 16
    else:
        assert stopped[8:] == [2] * 8
        assert scheduler.reason("tune-9").startswith(("rung 1 (epoch 2): place ", "epoch 2: "))
    assert scheduler.reason("tune-1") is None
    assert scheduler.reason("never seen") is None


def test_stale_values_are_never_judged(name):
    scheduler = build_scheduler(config(SECTIONS[name]))
    for number in range(8):
        run(scheduler, number, 0.9)
    handle = trial(8)
    for epoch in range(1, EPOCHS):
        assert scheduler.on_trial_result(None, handle, report(epoch, 0.1, stale=True)) == "CONTINUE"


def test_a_trial_is_judged_by_its_own_epochs_not_by_tunes_count(name, scheduler):
    for number in range(8):
        run(scheduler, number, 0.9)
    late = run(scheduler, 8, 0.2, first=5)
    assert late == {"none": None, "moasha": 6, "asha": 6, "median": 6}[name]


@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_values_stop_no_other_trial_and_raise_nothing(scheduler, missing):
    for number in range(6):
        run(scheduler, number, missing)
    assert [run(scheduler, number, 0.5) for number in range(6, 9)] == [None] * 3


def test_failed_flagged_errored_and_removed_trials_do_not_push_others_out(scheduler):
    for number in range(4):
        handle = trial(number)
        scheduler.on_trial_result(None, handle, report(2, 0.99))
        scheduler.on_trial_complete(None, handle, report(3, None, status="failed"))
    for number in range(4, 8):
        run(scheduler, number, 0.99, flags=["fgsm_stronger"])
    for number in range(8, 12):
        run(scheduler, number, 0.99, epochs=6)
        scheduler.on_trial_error(None, trial(number))
    scheduler.on_trial_remove(None, trial(12))
    assert [run(scheduler, number, 0.5) for number in range(13, 16)] == [None] * 3


def test_a_retried_trial_that_reports_epochs_again_is_judged_once(scheduler):
    for number in range(8):
        run(scheduler, number, 0.5)
    run(scheduler, 8, 0.9, epochs=5)
    for number in range(9, 20):
        run(scheduler, number, 0.95)
    before = {epoch: dict(points) for epoch, points in scheduler.seen.items()}
    assert run(scheduler, 8, 0.9, epochs=5) is None
    assert scheduler.seen == before


def test_the_same_reports_give_the_same_stops(name):
    def stops(seed):
        scheduler = build_scheduler(config(SECTIONS[name]))
        draw = random.Random(seed)
        return [run(scheduler, number, draw.random()) for number in range(40)]

    assert stops(1) == stops(1)
    if name != "none":
        assert len(set(stops(1))) > 1


@pytest.mark.parametrize("copy", [pickle, cloudpickle])
def test_a_copy_decides_as_the_original(name, copy):
    scheduler = build_scheduler(config(SECTIONS[name]))
    draw = random.Random(3)
    for number in range(20):
        run(scheduler, number, draw.random())
    other = pickle.loads(copy.dumps(scheduler))
    assert other.seen == scheduler.seen
    rest = [draw.random() for _ in range(20)]
    stops = [[run(each, 20 + number, quality) for number, quality in enumerate(rest)] for each in (scheduler, other)]
    assert stops[0] == stops[1]


def rows_on_disk(qualities, stops):
    """The result rows and epoch rows of trials that ended."""
    rows, epochs = [], []
    for number, (quality, stop) in enumerate(zip(qualities, stops, strict=True)):
        status = "stopped_early" if stop else "completed"
        rows.append({"trial_id": f"{number:05d}", "status": status, "flags": []})
        epochs += [report(epoch, quality) | {"trial_id": f"{number:05d}"} for epoch in range(1, (stop or EPOCHS) + 1)]
    return rows, epochs


def test_a_resumed_study_has_the_same_rungs(name):
    draw = random.Random(5)
    qualities = [draw.random() for _ in range(40)]
    uninterrupted = build_scheduler(config(SECTIONS[name]))
    stops = [run(uninterrupted, number, quality) for number, quality in enumerate(qualities[:25])]
    running = [run(uninterrupted, number, qualities[number], epochs=6) for number in (25, 26)]
    assert name == "none" or set(stops) != {None}

    resumed = build_scheduler(config(SECTIONS[name]))
    resumed.load_rows(*rows_on_disk(qualities[:25], stops))
    for number, stop in zip((25, 26), running, strict=True):
        if stop is None:
            # its checkpoint is at epoch 6, so epoch 7 is the first to be reported, with what came before
            earlier = [report(epoch, qualities[number]) for epoch in range(2, 7, 2)]
            result = report(7, qualities[number], earlier=earlier)
            assert resumed.on_trial_result(None, trial(number, "other"), result) == "CONTINUE"
        else:
            resumed.load_rows([], [report(2, qualities[number]) | {"trial_id": f"{number:05d}"}])
    assert resumed.seen == uninterrupted.seen
    rest = [[run(each, number, qualities[number]) for number in range(27, 40)] for each in (uninterrupted, resumed)]
    assert rest[0] == rest[1]


def test_failed_and_flagged_rows_on_disk_are_excluded(name):
    scheduler = build_scheduler(config(SECTIONS[name]))
    rows, epochs = rows_on_disk([0.99] * 8, [None] * 8)
    for number, row in enumerate(rows):
        row |= {"status": "failed"} if number < 4 else {"flags": ["fgsm_stronger"]}
    scheduler.load_rows(rows, epochs)
    assert [run(scheduler, number, 0.5) for number in range(8, 11)] == [None] * 3


def test_an_empty_study_folder_gives_no_values(name, tmp_path):
    assert resumed_scheduler(config(SECTIONS[name]), tmp_path, []).seen == {}


def test_it_is_a_scheduler_of_tune_and_starts_trials_in_order(scheduler):
    assert isinstance(scheduler, FIFOScheduler)
    waiting = [
        SimpleNamespace(trial_id="a", status="TERMINATED"),
        SimpleNamespace(trial_id="b", status="PENDING"),
        SimpleNamespace(trial_id="c", status="PENDING"),
    ]
    assert scheduler.choose_trial_to_run(SimpleNamespace(get_trials=lambda: waiting)) is waiting[1]
    assert scheduler.set_search_properties(None, None)


def test_a_free_worker_goes_to_a_new_trial_or_to_one_that_has_waited_for_long(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(schedulers.time, "monotonic", lambda: now[0])
    waits, new = (SimpleNamespace(trial_id=name, status="PENDING") for name in ("waits", "new"))
    trials = [SimpleNamespace(trial_id="runs", status="RUNNING"), waits]
    tune = SimpleNamespace(get_trials=lambda: trials)
    choice = NoStopping()
    assert choice.choose_trial_to_run(tune) is waits
    now[0] += START_SECONDS / 2  # its worker is being started when another one becomes free
    trials.append(new)
    assert choice.choose_trial_to_run(tune) is new
    assert choice.choose_trial_to_run(tune) is waits
    newer = SimpleNamespace(trial_id="newer", status="PENDING")
    trials.append(newer)
    now[0] += START_SECONDS / 2 + 1
    assert choice.choose_trial_to_run(tune) is waits
    for trial in trials:
        trial.status = "RUNNING"
    assert choice.choose_trial_to_run(tune) is None
