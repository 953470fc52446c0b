"""New seeds and measurements on test killed with SIGKILL in their middle: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import signal

import pytest
from helpers.studies.small_study import SmallStudy

from analysis.data.results import read_evaluations, read_examples, read_results
from analysis.heldout.measurements import examples_file
from study.directory.seed_plan import read_plan

pytestmark = pytest.mark.chaos

SEEDS = 2
CONFIRM = ("confirm", "--seeds", str(SEEDS), "--max", "2", "--limit", "100")


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    """A study, and the members whose new seeds were trained and measured by commands killed in either stage."""
    study = SmallStudy(tmp_path_factory.mktemp("kills"), {"training": {"epochs": 6}})
    assert study.launch().wait(400) == 0, study.said
    folder = study.dir / "confirm"
    words = (CONFIRM[0], str(study.dir), *CONFIRM[1:])

    def files(pattern):
        return list(folder.glob(pattern))

    for stage, pattern in (("training", "results/*.parquet"), ("measuring", "evaluations/*.parquet")):
        command = study.start(*words)
        study.wait_until(lambda pattern=pattern: files(pattern), command)
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
        # the next command must find what this one left, and no half-written file
        assert files(pattern), stage
    ended = study.call(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    return study, [member["trial_id"] for member in json.loads(ended.stdout)["members"]]


def test_each_seed_has_one_row_of_its_plan(confirmed) -> None:
    study, members = confirmed
    rows = read_results(study.dir / "confirm").to_pylist()
    wanted = {f"{member}-s{repeat}" for member in members for repeat in range(1, SEEDS + 1)}
    assert sorted(row["trial_id"] for row in rows) == sorted(wanted)
    seeds = {replica.trial_id: replica.seed for replica in read_plan(study.dir / "confirm").replicas}
    assert {row["trial_id"]: row["seed"] for row in rows} == seeds
    assert {row["status"] for row in rows} == {"completed"}


def test_each_network_was_measured_once_with_its_outcomes(confirmed) -> None:
    study, members = confirmed
    for folder, names in ((study.dir, set(members)), (study.dir / "confirm", set(study_names(members)))):
        rows = read_evaluations(folder).to_pylist()
        assert sorted(row["trial_id"] for row in rows) == sorted(names)
        for row in rows:
            assert read_examples(examples_file(folder, row["evaluation"])).num_rows == 100


def study_names(members):
    return [f"{member}-s{repeat}" for member in members for repeat in range(1, SEEDS + 1)]


def test_a_seed_alone_gives_its_row_again(confirmed) -> None:
    study, members = confirmed
    alone = study.call("train", str(study.dir / "confirm"), "--trial", f"{members[0]}-s1")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert f"agrees with trial {members[0]}-s1" in alone.stdout
