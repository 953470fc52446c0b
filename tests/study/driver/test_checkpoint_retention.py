"""Which checkpoints each rule keeps, and how the others are deleted."""

from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest
from helpers.studies.synthetic_results import result_row

from analysis.data.results import to_table
from analysis.data.schema import RESULT
from analysis.fronts.front import on_front
from study.driver import checkpoint_retention
from study.driver.checkpoint_retention import MARGIN, CheckpointRetention, Deletions

FRONT = ["val_clean_accuracy", "val_robust_accuracy"]


def row(number, clean, robust, **changes):
    return result_row(number, val_clean_accuracy=clean, val_robust_accuracy=robust, trial_id=str(number), **changes)


def deleted(rule, ended, **options):
    removed = []
    retention = CheckpointRetention(rule, objectives=options.pop("objectives", FRONT), remove=removed.append, **options)
    for ended_row in ended:
        retention.ended(ended_row)
    return removed


ROWS = [
    row(0, 0.80, 0.30),
    row(1, 0.90, 0.40),  # beats 0 by 0.1 in both
    row(2, 0.88, 0.37),  # beaten by less than the margin
    row(3, 0.99, 0.10),
    row(4, 0.70, 0.20, status="stopped_early"),
    row(5, 0.10, 0.10, status="failed", reason="diverged"),
    row(6, 1.00, 0.90, flags=["zero_gradients"]),  # suspicious: beats no other trial, and is kept for inspection
]


def test_contenders_are_deleted_only_when_clearly_beaten():
    assert deleted("contenders", ROWS) == ["0", "4", "5"]
    assert deleted("front", ROWS) == ["0", "2", "4", "5", "6"]
    assert deleted("all", ROWS) == []


def test_a_trial_must_be_beaten_in_every_objective_of_the_search():
    objectives = [*FRONT, "val_lipschitz_scale_free_log10"]
    smooth = row(0, 0.80, 0.30, val_lipschitz_scale_free_mean=1.0)
    rough = row(1, 0.90, 0.40, val_lipschitz_scale_free_mean=9.0)
    assert deleted("contenders", [smooth, rough], objectives=objectives) == []
    assert deleted("contenders", [smooth, rough]) == ["0"]


@pytest.mark.parametrize("rule", ["contenders", "front"])
def test_a_front_member_is_never_deleted(rule):
    rng = np.random.default_rng(0)
    rows = [row(number, *np.round(rng.random(2), 1)) for number in range(300)]
    removed = set(deleted(rule, rows))
    names = dict.fromkeys(name for row in rows for name in row)
    table = to_table({name: [row.get(name) for row in rows] for name in names}, RESULT)
    members = {trial for trial, on in zip(table["trial_id"].to_pylist(), on_front(table), strict=True) if on}
    assert not removed & members
    points = np.array([[row[name] for name in FRONT] for row in rows])
    margin = MARGIN if rule == "contenders" else 0.0
    for trial, point in zip(rows, points, strict=True):
        if rule == "contenders":
            beaten = (points > point + margin).all(axis=1).any()
        else:
            beaten = ((points >= point).all(axis=1) & (points > point).any(axis=1)).any()
        assert (trial["trial_id"] in removed) == beaten


def test_a_resumed_study_compares_with_its_earlier_trials():
    assert deleted("contenders", ROWS[:1], rows=[ROWS[1]]) == ["0"]
    assert deleted("contenders", [ROWS[3]], rows=ROWS[:3]) == []


@pytest.mark.parametrize(
    ("rule", "removed"), [("contenders", ["0", "4", "5"]), ("front", ["0", "2", "4", "5"]), ("all", [])]
)
def test_a_resumed_study_deletes_existing_checkpoints_that_its_rule_does_not_keep(rule, removed):
    # 6 has no checkpoints any more, 7 runs, and the last is not a trial
    assert deleted(rule, [], rows=ROWS, existing=["0", "1", "2", "3", "4", "5", "7", "notes"]) == removed


@pytest.fixture
def folder(tmp_path):
    for trial in ("00000", "00001", "00002"):
        (tmp_path / trial).mkdir()
        (tmp_path / trial / "last.pt").write_bytes(b"weights")
    return tmp_path


def test_deletions_run_in_the_background_and_their_errors_do_not_reach_the_driver(folder, monkeypatch):
    attempted, removing = [], threading.Event()

    def remove(location):
        removing.wait(30)
        attempted.append(location.name)
        if location.name == "00000":
            raise OSError("no answer")
        shutil.rmtree(location)

    monkeypatch.setattr(checkpoint_retention, "remove_folder", remove)
    with Deletions(folder) as delete:
        assert delete.existing() == ["00000", "00001", "00002"]
        delete("00000")
        delete("00001")
        assert attempted == []  # the driver continues while the store is slow
        removing.set()
    assert attempted == ["00000", "00001"]
    assert delete.existing() == ["00000", "00002"]
    assert Deletions(folder / "gone").existing() == []


def test_a_store_that_does_not_respond_does_not_delay_the_end(folder, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(checkpoint_retention, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(checkpoint_retention, "remove_folder", lambda location: released.wait(30))
    monkeypatch.setattr(checkpoint_retention, "folders", lambda location: (_ for _ in ()).throw(OSError("no answer")))
    start = time.monotonic()
    with Deletions(folder) as delete:
        assert delete.existing() == []
        delete("00000")
        delete("00001")
    assert time.monotonic() - start < 10
    released.set()
