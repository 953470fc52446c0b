"""A study on two nodes, one of which is killed in mid-trial: nothing is lost and nothing runs twice."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from helpers.services.ray_cluster import Node, cluster
from helpers.studies.small_study import SmallStudy

from study.lifecycle.train_trial import retrain
from trainables.checkpoints.format import read_checkpoint

pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture(scope="module")
def survived(tmp_path_factory, empty_store):
    """The study, the remaining node's cluster, and the checkpoints' histories of both running trials at the kill."""
    folder = tmp_path_factory.mktemp("kill")
    shutil.copy(empty_store, folder / "mlflow.db")
    one_trial = ("--num-cpus", "1", "--num-gpus", "1")
    with cluster(1, *one_trial, head=one_trial) as ray:
        changes = {"resources": {"gpus": 1}, "search": {"num_trials": 2}}
        study = SmallStudy(folder, changes, environment=ray.driver_environment)
        driver = study.launch("--address", ray.address)

        def both_in_the_middle():
            histories = {
                trial: read_checkpoint(study.dir / "checkpoints" / trial / "last.pt")["history"]
                for trial in study.running()
            }
            return histories if len(histories) == 2 and max(map(len, histories.values())) < study.epochs - 4 else None

        histories = study.wait_until(both_in_the_middle, driver)
        ray.nodes[1].kill()
        assert driver.wait(400) == 0, study.output
        yield study, ray, histories


def interrupted(study: SmallStudy) -> list[str]:
    lines = [line for line in study.output.splitlines() if "from its last checkpoint" in line]
    return [line.split()[1] for line in lines]


def test_every_trial_has_one_row(survived):
    study, _, _ = survived
    assert [row["number"] for row in study.rows()] == [0, 1]
    assert {row["status"] for row in study.rows()} == {"completed"}
    assert [trial.state.name for trial in study.optuna().trials] == ["COMPLETE"] * 2


def test_the_interrupted_trial_resumed_from_its_checkpoint_on_the_other_node(survived):
    study, ray, histories = survived
    (trial,) = interrupted(study)
    assert trial in histories
    row = next(row for row in study.rows() if row["trial_id"] == trial)
    epochs = study.epoch_rows(trial)
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, study.epochs + 1))
    # Wall times identify runs of an epoch: epochs before the kill were not run again.
    before = [epoch["seconds"] for epoch in histories[trial]]
    assert before
    assert [epoch["seconds"] for epoch in epochs[: len(before)]] == before
    remaining = ray.nodes[0]
    if has_own_name(remaining):
        assert row["host"] == remaining.name


@pytest.mark.chaos  # for its length; in one process `test_training.py` shows it of every method
def test_the_interrupted_trial_can_be_reproduced_on_its_own(survived, capsys):
    study, _, _ = survived
    (trial,) = interrupted(study)
    retrain(study.dir, trial=trial, save=None, as_json=False)
    assert f"agrees with trial {trial}" in capsys.readouterr().out


def test_mlflow_has_one_finished_run_for_each_trial(survived):
    study, _, _ = survived
    runs = study.runs()
    assert set(runs) == {"study", *(row["trial_id"] for row in study.rows())}
    assert {tuple(states) for states in runs.values()} == {("FINISHED",)}


CONNECT = """
import os
import sys
from ray._private import services
from ray._raylet import AuthenticationTokenLoader
from study.cluster.connection import connected
from study.errors import UsageError

services.find_node_ids = lambda: set()
for token in (os.environ["RAY_AUTH_TOKEN"], "other", ""):
    os.environ["RAY_AUTH_TOKEN"] = token
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        with connected(sys.argv[1]):
            print("connected")
    except UsageError as error:
        print(error)
"""


def test_a_machine_that_cannot_take_part_is_told_why_at_once(survived):
    _, ray, _ = survived
    address = ray.address
    environment = ray.environment | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "HOME": "/nowhere"}
    # Ray itself would take a minute and more for the first two, and end with a traceback for the third
    line = [sys.executable, "-c", CONNECT, address]
    answer = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=True)
    no_node, *refused = answer.stdout.splitlines()
    assert no_node.startswith(
        f"this machine is no node of the Ray cluster at {address}: first run `ray start --address="
    )
    assert len(refused) == 2
    for message in refused:
        assert message.startswith(f"the Ray cluster at {address} refuses this machine")
        assert "RAY_AUTH_TOKEN to the cluster's token" in message


def has_own_name(node: Node) -> bool:
    return node.line[0] == "unshare"
