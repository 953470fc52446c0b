"""`confirm` killed with SIGKILL while it trains new seeds or measures on test: nothing is lost or done twice."""

from __future__ import annotations

import json
import os
import signal

import pytest
from helpers.studies.small_study import SmallStudy

from analysis.data.results import examples_file, read_evaluations, read_examples, read_results
from study.directory.seed_plan import read_plan

pytestmark = pytest.mark.chaos

SEEDS = 2
CONFIRM = ("confirm", "--seeds", str(SEEDS), "--max", "2", "--limit", "100")


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    """Return a study, and the members that `confirm` trained and measured although it was killed in both stages."""
    study = SmallStudy(tmp_path_factory.mktemp("kills"), {"training": {"epochs": 6}})
    assert study.launch().wait(400) == 0, study.output
    folder = study.dir / "confirm"
    words = (CONFIRM[0], str(study.dir), *CONFIRM[1:])

    def files(pattern):
        return list(folder.glob(pattern))

    for stage, pattern in (("training", "results/*.parquet"), ("measuring", "evaluations/*.parquet")):
        command = study.start(*words)
        study.wait_until(lambda pattern=pattern: files(pattern), command)
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
        # the next command must be able to read these files
        assert files(pattern), stage
    completed = study.call(*words, "--json")
    assert completed.returncode == 0, completed.stderr
    return study, [member["trial_id"] for member in json.loads(completed.stdout)["members"]]


def test_each_seed_has_one_row_of_its_plan(confirmed) -> None:
    study, members = confirmed
    rows = read_results(study.dir / "confirm").to_pylist()
    assert sorted(row["trial_id"] for row in rows) == sorted(seed_names(members))
    seeds = {replica.trial_id: replica.seed for replica in read_plan(study.dir / "confirm").replicas}
    assert {row["trial_id"]: row["seed"] for row in rows} == seeds
    assert {row["status"] for row in rows} == {"completed"}


def test_each_network_was_measured_once_with_its_outcomes(confirmed) -> None:
    study, members = confirmed
    for folder, names in ((study.dir, set(members)), (study.dir / "confirm", set(seed_names(members)))):
        rows = read_evaluations(folder).to_pylist()
        assert sorted(row["trial_id"] for row in rows) == sorted(names)
        for row in rows:
            assert read_examples(examples_file(folder, row["evaluation"])).num_rows == 100


def seed_names(members):
    return [f"{member}-s{repeat}" for member in members for repeat in range(1, SEEDS + 1)]


def test_training_one_seed_reproduces_its_row(confirmed) -> None:
    study, members = confirmed
    command = study.call("train", str(study.dir / "confirm"), "--trial", f"{members[0]}-s1")
    assert command.returncode == 0, command.stdout + command.stderr
    assert f"agrees with trial {members[0]}-s1" in command.stdout
