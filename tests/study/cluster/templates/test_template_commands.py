"""The commands in the templates' headers: they fit the image and are accepted by `launch`."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
import types
from importlib import resources
from pathlib import Path

import pytest
import typer
import yaml

from study.cli import app
from study.config.loading import load_config
from study.directory import mounts
from study.driver.signals import GRACE_SECONDS
from study.errors import UsageError
from study.lifecycle.background import STOP_SECONDS
from study.lifecycle.launch import launch
from study.search.storage import check_storage

FOLDER = Path(str(resources.files("study") / "cluster" / "templates"))
LAUNCHERS = ["aws.yaml", "gcp.yaml", "on-premise.yaml"]
SHARED = ["slurm.sbatch", "kuberay-raycluster.yaml", "kuberay-rayjob.yaml"]
ROOT = Path(__file__).resolve().parents[4]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
OPERATORS = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def header(name: str) -> list[list[str]]:
    """The commands in a template's header."""
    lines = [line.removeprefix("#   ") for line in text(name).split("\n\n")[0].splitlines() if line.startswith("#   ")]
    return [shlex.split(line.split("   ")[0]) for line in lines]


def image(pattern: str) -> str:
    """The last match of a pattern in the Dockerfile."""
    return re.findall(pattern, DOCKERFILE, re.MULTILINE)[-1]


def check_command(words: list[str]) -> None:
    """Check that a `robust-study` command line names an existing command and its options."""
    command = typer.main.get_command(app).commands[words[1]]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, f"{' '.join(words)} has unknown options"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_launchers_commands_fit_the_image_and_copy_everything_back_before_ray_down(name):
    from ray.scripts.scripts import cli

    folder = image(r"^WORKDIR (\S+)")
    steps = [words[1:] for words in header(name) if words[0] == "ray"]
    for words in steps:
        options = {option for parameter in cli.commands[words[0]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
        assert words[1] == name
    assert [words[0] for words in steps] == ["up", "rsync-up", "exec", "exec", "rsync-down", "down"]
    _, up, launch, status, down, _ = steps
    # the launcher's login shells find `robust-study`
    assert r'"PATH=/opt/venv/bin:\$PATH" > /etc/profile.d/' in DOCKERFILE
    # the image has neither tmux nor screen: only a detached driver outlives the connection
    change, start = (shlex.split(part) for part in launch[2].split("&&"))
    assert change == ["cd", folder]
    check_command(start)
    assert start[:2] == ["robust-study", "launch"]
    assert "--detach" in start
    assert up[3] == f"{folder}/{start[2]}"
    check_command(shlex.split(status[2]))
    # studies, mlflow.db and mlartifacts are all in the folder the study is launched in; its content is copied back
    assert shlex.split(status[2])[:3] == ["robust-study", "status", f"{folder}/studies/NAME"]
    assert down[2] == f"{folder}/"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_token_is_where_the_images_user_can_find_and_read_it(name):
    config = yaml.safe_load(text(name))
    home = "/home/" + image(r"useradd .* (\w+) \\$")
    (inside,) = config["file_mounts"]
    assert inside == f"{home}/.ray/auth_token"
    mounted = f"/tmp/ray_tmp_mount/{config['cluster_name']}"
    assert config["initialization_commands"] == [f"chmod 700 {mounted} && chmod 644 {mounted}{inside}"]


MACHINE = """#!/bin/bash
while [[ $1 == -* ]]; do case $1 in -i | -o | -l) shift 2 ;; *) shift ;; esac; done
shift # user@host: every machine is this machine
HOME=BOX exec bash -c "$*"
"""
# the container's /studies is a folder on this machine
CONTAINER = """#!/bin/bash
[[ $1 == inspect ]] && { echo true; exit; }
shift
while [[ $1 == -* ]]; do shift; done
shift # the container's name
for word in "$@"; do words+=("${word//\\/studies/BOX\\/studies}"); done
cd BOX/studies && HOME=BOX exec "${words[@]}"
"""
COMMAND = """#!/bin/bash
[[ $1 == launch && -f $2 ]] || exit 2
mkdir -p studies/NAME mlartifacts && touch studies/NAME/study.yaml mlartifacts/figure mlflow.db
"""


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed here")
@pytest.mark.parametrize("name", LAUNCHERS)
def test_rays_own_runner_copies_the_study_there_and_everything_back(name, tmp_path, monkeypatch):
    from ray.autoscaler._private.command_runner import DockerCommandRunner

    box, local = tmp_path / "box", tmp_path / "local"
    for folder in (box / "studies", local, tmp_path / "bin"):
        folder.mkdir(parents=True)
    for program, code in {"ssh": MACHINE, "docker": CONTAINER, "robust-study": COMMAND}.items():
        (tmp_path / "bin" / program).write_text(code.replace("BOX", str(box)))
        (tmp_path / "bin" / program).chmod(0o755)
    (box / ".bashrc").write_text(f"export PATH={tmp_path}/bin:$PATH\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.chdir(local)
    (local / "study.yaml").write_text("name: NAME\n")
    address = types.SimpleNamespace(external_ip=lambda node: "127.0.0.1", internal_ip=lambda node: "127.0.0.1")
    runner = DockerCommandRunner(
        {"container_name": "ray", "image": "IMAGE"},
        log_prefix="",
        node_id="head",
        provider=address,
        auth_config={"ssh_user": getpass.getuser(), "ssh_private_key": "key"},
        cluster_name=f"test-{tmp_path.name}",
        process_runner=subprocess,
        use_internal_ip=True,
    )
    steps = {words[1]: words[3:] for words in reversed(header(name)) if words[0] == "ray"}
    try:
        runner.run_rsync_up(*steps["rsync-up"])
        runner.run(steps["exec"][0], exit_on_fail=True)
        runner.run_rsync_down(*steps["rsync-down"])
    finally:
        shutil.rmtree(runner._get_docker_host_mount_location(f"test-{tmp_path.name}"), ignore_errors=True)
    copied = {path.relative_to(local / Path(name).stem).as_posix() for path in local.rglob("*/*") if path.is_file()}
    assert copied == {"study.yaml", "studies/NAME/study.yaml", "mlflow.db", "mlartifacts/figure"}


@pytest.fixture
def network_folder(tmp_path, monkeypatch):
    """A folder that is on NFS according to the mount table."""
    table = tmp_path / "mounts"
    table.write_text(f"overlay / overlay rw 0 0\nserver:/studies {tmp_path}/studies nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.mark.parametrize("name", SHARED)
def test_on_a_network_file_system_launch_accepts_the_templates_storage(name, network_folder):
    (launch,) = re.findall(r"robust-study launch .*?(?=;|\"\$@\"|\n#\n)", text(name), re.DOTALL)
    words = launch.replace("\\\n#", " ").split()
    check_command(words)
    settings = set(re.findall(r"--set (storage\.\S+)", text(name)))
    assert len(settings) == 1
    check_storage(load_config("quickstart", assignments=[*settings]), network_folder / "quickstart", is_new=True)
    with pytest.raises(UsageError, match="network mount"):
        check_storage(load_config("quickstart"), network_folder / "quickstart", is_new=True)


def test_on_a_network_file_system_the_operators_page_checks_the_study_as_the_job_will_run_it(
    network_folder, monkeypatch, capsys
):
    monkeypatch.setattr("study.lifecycle.estimate.print_estimate", lambda *arguments, **options: None)
    (line,) = re.findall(r"^\.venv/bin/robust-study (launch study\.yaml .*)", OPERATORS, re.MULTILINE)
    shutil.copy(str(resources.files("study") / "config" / "presets" / "quickstart.yaml"), network_folder / "study.yaml")
    monkeypatch.chdir(network_folder)
    app(shlex.split(line), standalone_mode=False)
    assert "a network mount (nfs4)" in capsys.readouterr().err  # MLflow's file, of which the page speaks


def test_launch_warns_that_mlflows_file_may_be_lost_and_starts(network_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("study.lifecycle.estimate.print_estimate", lambda *arguments, **options: None)
    for folder, warned in ((network_folder, True), (tmp_path, False)):
        launch(
            "quickstart",
            assignments=[f"tracking.uri=sqlite:///{folder}/mlflow.db"],
            out=tmp_path / "out",
            data_root=None,
            address=None,
            dry_run=True,
        )
        assert ("a network mount (nfs4)" in capsys.readouterr().err) == warned


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_max_concurrent_counts_the_workers_that_the_autoscaler_can_add(name):
    (launch,) = [words for words in header(name) if words[:2] == ["ray", "exec"] and "launch" in words[-1]]
    assert f"resources.max_concurrent={yaml.safe_load(text(name))['max_workers']}" in launch[-1].split()


def test_sigterm_leaves_time_to_save_and_to_finish_the_reports():
    needed = GRACE_SECONDS + 60
    for name in SHARED[1:]:
        periods = [int(seconds) for seconds in re.findall(r"terminationGracePeriodSeconds: (\d+)", text(name))]
        assert len(periods) == 2
        assert min(periods) >= needed
    assert 60 * int(re.search(r"stop_grace_period: (\d+)m", text("docker-compose.yaml"))[1]) >= needed
    assert int(re.search(r"--signal=B:TERM@(\d+)", text("slurm.sbatch"))[1]) >= needed
    assert needed <= STOP_SECONDS
