"""Who is shown on test: chosen on validation once, whatever the study or anybody's cap does afterwards."""

from __future__ import annotations

import json
import os
import socket

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row

from study.directory.lock import process_start
from study.directory.seed_plan import Plan, Replica, read_plan
from study.errors import UsageError
from study.evaluation.selection import chosen_members, named_trials, read_choice
from trainables.settings import with_former_values
from trainables.spec import TrialSpec


def front_of(count, *, first=0):
    """Trials of which none dominates another, unevenly spread."""
    clean = np.linspace(0.5, 0.95, count) ** 2
    return [
        result_row(first + i, val_clean_accuracy=float(c), val_robust_accuracy=float(1 - c))
        for i, c in enumerate(clean)
    ]


def ids(rows):
    return [row["trial_id"] for row in rows]


def test_the_choice_is_the_front_spread_and_a_larger_cap_keeps_a_smaller_ones_members(tmp_path) -> None:
    beaten = result_row(90, val_clean_accuracy=0.1, val_robust_accuracy=0.0)
    flagged = result_row(91, val_clean_accuracy=1.0, val_robust_accuracy=1.0, flags=["zero_gradient"])
    table = as_table([*front_of(30), beaten, flagged])
    caps = {cap: ids(chosen_members(tmp_path, table, most=cap)) for cap in (2, 3, 7, 12, 100)}
    assert caps[2] == ["t00029", "t00000"]  # best clean accuracy first
    assert set(caps[2]) < set(caps[3]) < set(caps[7]) < set(caps[12]) < set(caps[100])
    assert len(caps[100]) == 30
    assert json.loads((tmp_path / "chosen.json").read_text())["trials"] == 32


def test_a_study_that_grows_changes_nobody(tmp_path, capsys) -> None:
    before = chosen_members(tmp_path, as_table(front_of(5)), most=10)
    better = result_row(70, val_clean_accuracy=0.99, val_robust_accuracy=0.99)
    after = chosen_members(tmp_path, as_table([*front_of(5), better]), most=10)
    assert ids(after) == ids(before)
    assert "chosen among 5 trials" in (said := capsys.readouterr().err)
    assert "the study has 6 now" in said
    (tmp_path / "chosen.json").unlink()
    assert ids(chosen_members(tmp_path, as_table([*front_of(5), better]), most=10)) == ["t00070"]


def test_a_member_that_is_gone_and_a_damaged_file_are_named(tmp_path) -> None:
    chosen_members(tmp_path, as_table(front_of(3)), most=10)
    with pytest.raises(UsageError, match="names trial t00002, whose row is missing: restore it"):
        chosen_members(tmp_path, as_table(front_of(2)), most=10)
    (tmp_path / "chosen.json").write_text("[]")
    with pytest.raises(UsageError, match=r"chosen\.json must hold chosen_at, trials and members"):
        read_choice(tmp_path)


def test_no_front_and_a_running_study_fix_nothing(tmp_path) -> None:
    lost = result_row(0, status="failed", reason="diverged", val_clean_accuracy=None, val_robust_accuracy=None)
    with pytest.raises(UsageError, match="has no front yet"):
        chosen_members(tmp_path, as_table([lost]), most=10)
    with pytest.raises(UsageError, match="differ in eval_epsilon"):
        chosen_members(tmp_path, as_table([result_row(0), result_row(1, eval_epsilon=0.3)]), most=10)
    driver = {"pid": os.getpid(), "host": socket.gethostname(), "begun": process_start(os.getpid()), "since": "now"}
    (tmp_path / "driver.json").write_text(json.dumps(driver))
    with pytest.raises(UsageError, match="its front may still change: wait until it ends"):
        chosen_members(tmp_path, as_table(front_of(3)), most=10)
    assert not (tmp_path / "chosen.json").exists()


def test_named_trials_are_found_with_or_without_zeros_and_once(tmp_path) -> None:
    rows = [result_row(n, trial_id=f"{n:05d}") for n in range(3)]
    rows.append(result_row(3, trial_id="00003", status="failed", reason="diverged"))
    table = as_table(rows)
    assert ids(named_trials(tmp_path, table, ["2", "00000", "2"])) == ["00002", "00000"]
    with pytest.raises(UsageError, match="no result of trial '9'; it has: 00000 to 00003"):
        named_trials(tmp_path, table, ["9"])
    with pytest.raises(UsageError, match=r"trial 00003 failed \(diverged\), so there is no network"):
        named_trials(tmp_path, table, ["3"])


def test_new_seeds_are_not_chosen_among(tmp_path) -> None:
    replica = Replica(
        trial_id="00000-s1", parent="00000", parent_number=0, repeat=1, seed=5, proposal="random",
        params={"dropout": 0.1, "method": "trades"},
        spec=with_former_values({"seed": 5}, TrialSpec),
    )  # fmt: skip
    Plan((replica,), "id").write(tmp_path)
    assert read_plan(tmp_path) == Plan((replica,), "id")
    assert read_plan(tmp_path).trial(0)["replicate_of"] == 0
    with pytest.raises(UsageError, match="of which none is chosen"):
        chosen_members(tmp_path, as_table(front_of(3)), most=10)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UsageError, match=r"plan\.json is damaged"):
        read_plan(tmp_path)
