"""The image and the compose file in a real Docker daemon: built unmodified on a stand-in base, studies run in them."""

from __future__ import annotations

import csv
import os
import re
import shlex
import sqlite3
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from helpers.services.docker import DockerError, docker, missing
from helpers.services.ports import free_port

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[4]
COMPOSE = Path(str(resources.files("study") / "cluster" / "templates" / "docker-compose.yaml"))
STAND_INS = ROOT / "tests" / "helpers" / "services" / "stand_in_images.sh"
IMAGE = "robust-study"
SMALL = ["--set", "search.num_trials=2", "--set", "training.epochs=2"]
MINUTES = 60.0


@pytest.fixture(scope="module")
def daemon():
    if reason := missing():
        pytest.skip(reason)
    with docker() as running:
        yield running


@pytest.fixture(scope="module")
def image(daemon):
    """The name of the image, built by the line of the compose file's header."""
    daemon.run(STAND_INS, seconds=20 * MINUTES)
    daemon("build", "--network", "host", "--tag", IMAGE, ".", cwd=ROOT, seconds=40 * MINUTES)
    return IMAGE


def test_the_image_runs_a_study_as_its_own_user_and_without_a_network(daemon, image, tmp_path):
    assert daemon("run", "--rm", "--network=none", image, "id", "--user").strip() == "10001"
    assert "Usage: robust-study" in daemon("run", "--rm", "--network=none", image)
    box = ["run", "--name=study", "--network=none", "--shm-size=1g", image]
    printed = daemon(*box, "robust-study", "launch", "quickstart", *SMALL, seconds=15 * MINUTES)
    assert "Front on validation" in printed
    daemon("cp", "study:/studies/.", tmp_path)
    daemon("rm", "study")
    folder = tmp_path / "studies" / "quickstart"
    with open(folder / "figures" / "pareto.csv", encoding="utf-8") as file:
        assert 1 <= len(list(csv.DictReader(file))) <= 2
    with sqlite3.connect(tmp_path / "mlflow.db") as runs:
        assert runs.execute("select status, count(*) from runs group by status").fetchall() == [("FINISHED", 3)]


@pytest.fixture
def compose(daemon, image, tmp_path):
    """A function that runs the compose program on the template, whose services it stops and removes at the end."""
    program = daemon.compose()
    if program is None:
        pytest.skip("no compose program is installed")
    text = COMPOSE.read_text(encoding="utf-8")
    if program != ["docker", "compose"]:
        text = text.replace("name: robust-study\n", "", 1)  # version 1 does not know it
    # this machine may use these ports
    text = re.sub(r"127\.0\.0\.1:(\d+):\1", lambda match: f"127.0.0.1:{free_port()}:{match[1]}", text)
    (tmp_path / "docker-compose.yaml").write_text(text, encoding="utf-8")
    (secrets,) = re.findall(r"#   (printf .* > \.env)$", text, re.MULTILINE)
    subprocess.run(["bash", "-c", secrets], cwd=tmp_path, check=True)
    words = [*program, "--project-name", "robust-study"]

    def run(*more, seconds=600):
        try:
            return daemon.run(*words, *more, cwd=tmp_path, seconds=seconds)
        except DockerError as error:
            logs = daemon.run(*words, "logs", "--no-color", "--tail=40", cwd=tmp_path)
            raise AssertionError(f"{error}\n{logs}") from error

    yield run
    daemon.run(*words, "down", "--volumes", "--timeout=60", cwd=tmp_path)


def test_the_compose_file_runs_a_study_tracked_on_postgresql_and_the_doctor_finds_nothing_wrong(compose):
    compose("up", "--detach")
    (header,) = re.findall(r"#   docker compose (run .*)$", COMPOSE.read_text(), re.MULTILINE)
    words = shlex.split(header)
    start, command = words[: words.index("study") + 1], words[words.index("study") + 1 :]
    start.insert(1, "-T")  # no terminal here
    _, preset, *options = command
    examined = compose(*start, "doctor", preset, *options)
    rooms = re.findall(r"ok +/dev/shm .*2\.1 GB, object store 1\.5 GB", examined)
    assert len(rooms) == 4, examined  # the head, two workers, and the study's own container
    assert ", nothing wrong" in examined
    assert "Front on validation" in compose(*start, *command, *SMALL, seconds=15 * MINUTES)
    query = "select status, count(*) from runs group by status"
    psql = ["psql", "--username=mlflow", "--dbname=mlflow", "--no-align", "--tuples-only"]
    assert compose("exec", "-T", "postgres", *psql, f"--command={query}").strip() == "FINISHED|3"
    running = compose("ps", "-q").split()
    assert len(running) == 5, os.linesep.join(running)
