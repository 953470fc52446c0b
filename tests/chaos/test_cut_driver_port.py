"""Machines that a firewall, a missing node or another token keeps apart: what an operator is told, and how soon."""

from __future__ import annotations

import secrets
import signal
import time

import pytest
from helpers.services.machines import HEAD_PORT, missing, network
from helpers.studies.small_study import SmallStudy

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

WORKER_PORTS = "10002:19999"
CANNOT_FETCH = "cannot fetch an object from the driver (it did not arrive in 20 s)"


@pytest.fixture(scope="module")
def machines():
    """The head, a machine that becomes a node, and one that runs trials; the second one runs the study."""
    with network(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32)) as made:
        head, driver, worker = (made.add(name) for name in ("head", "driver", "worker"))
        head.start_ray("--num-cpus", "0")
        worker.start_ray("--num-cpus", "4", head=head.address)
        yield head, driver, worker


@pytest.fixture
def study(machines, tmp_path):
    head, driver, _ = machines
    changes = {
        "cluster": {"address": f"{head.address}:{HEAD_PORT}"},
        "storage": {"checkpoints": str(tmp_path)},
        "search": {"num_trials": 2},
        "resources": {"max_concurrent": 1},
    }
    return SmallStudy(tmp_path, changes, environment=driver.environment, prefix=driver.prefix(tmp_path))


def seconds_of(study, *words):
    start = time.monotonic()
    return study.call(*words), time.monotonic() - start


def problems(report):
    """Return the nodes with a problem of `doctor`, each with its check."""
    lines = [line.split() for line in report.stdout.splitlines() if line.startswith("PROBLEM")]
    return {(check, node) for _, check, node, *_ in lines}


def test_a_machine_that_is_no_node_is_told_at_once(study, note):
    result, seconds = seconds_of(study, "launch", "study.yaml", "--dry-run")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "this machine is no node of the Ray cluster" in line
    assert "--num-cpus=0` here" in line
    assert seconds < 60  # the libraries' import
    note("a machine that is no node", f"{line} ({seconds:.0f} s)", "nothing started")


def test_a_closed_port_of_the_driver_is_told_before_and_after_the_start(study, machines, note):
    head, driver, worker = machines
    driver.start_ray("--num-cpus", "0", head=head.address)
    dry, _ = seconds_of(study, "launch", "study.yaml", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "1 trials at a time on 1 of the cluster's 3 nodes" in dry.stdout
    assert "`resources.max_concurrent` is 1, though 4 trials fit on the cluster at once" in dry.stderr

    launched = study.launch()
    study.wait_until(lambda: "study small: 2 trials" in study.output, launched)  # every check has passed
    driver.close(WORKER_PORTS)
    closed = time.monotonic()
    study.wait_until(lambda: "trials have been starting for 60 s and none is running" in study.output, launched)
    told = time.monotonic() - closed
    assert f"robust-study doctor --address {head.address}:{HEAD_PORT}" in study.output
    driver.signal(launched, signal.SIGTERM)
    assert launched.wait(200) == 143, study.output
    assert study.output.count("have been starting for") == 1

    report, seconds = seconds_of(study, "doctor", str(study.dir))
    assert report.returncode == 1
    assert problems(report) == {("ports", head.address), ("ports", worker.address)}
    assert CANNOT_FETCH in report.stdout
    refused, _ = seconds_of(study, "resume", str(study.dir))
    assert refused.returncode == 2
    assert f"node {head.address} {CANNOT_FETCH}" in refused.stderr
    note(
        "the driver's port closed to the nodes",
        f"`launch` says so {told:.0f} s after, `doctor` in {seconds:.0f} s: {refused.stderr.splitlines()[-1]}",
        "no trial lost; the port opened, `resume` ran both",
    )

    driver.open()
    resumed = study.call("resume", str(study.dir))
    assert resumed.returncode == 0, resumed.stderr
    assert [row["status"] for row in study.rows()] == ["completed"] * 2
