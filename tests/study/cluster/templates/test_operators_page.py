"""The lines of docs/operators.md: ten at most for each kind of cluster, with commands, options and files that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib import resources
from pathlib import Path

import pytest
import typer
import yaml

from study.cli import app

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
WAYS = dict(re.findall(r"^## (On .+?)\n.*?```bash\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


def lines(way: str) -> list[str]:
    return WAYS[way].strip().splitlines()


def commands() -> list[list[str]]:
    """Every command of the three ways, without what is after a comment's sign."""
    words = [shlex.split(line, comments=True) for way in WAYS for line in lines(way)]
    return [part.split() for each in words for part in " ".join(each).split(" && ")]


def test_each_way_goes_from_the_clone_to_a_study_in_ten_lines():
    assert list(WAYS) == ["On bare machines", "On Slurm", "On Kubernetes, by KubeRay"]
    for way in WAYS:
        assert len(lines(way)) <= 10
        assert lines(way)[0].startswith("git clone REPOSITORY robust-study && cd robust-study")


def test_the_commands_have_their_options():
    import click
    from ray.scripts.scripts import cli

    programs = {"robust-study": typer.main.get_command(app), "ray": cli}
    of_page = [[Path(words[0].lstrip("(")).name, *words[1:]] for words in commands()]
    known = [words for words in of_page if words[0] in programs]
    assert len(known) >= 7
    for program, name, *rest in known:
        command = programs[program].get_command(click.Context(programs[program]), name)
        assert command is not None, f"{program} has no {name}"
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options | {"--set"}


@pytest.mark.parametrize("way", ["On Slurm", "On Kubernetes, by KubeRay"])
def test_the_files_that_are_copied_exist(way):
    files = re.findall(r"study/\S+\.(?:sbatch|yaml)", WAYS[way])
    assert len(files) == 2
    assert all((ROOT / file).is_file() for file in files)


def test_each_message_with_which_a_slurm_job_ends_is_explained():
    script = resources.files("study").joinpath("cluster/templates/slurm.sbatch").read_text()
    explained = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    messages = re.findall(r'\bfail "(.*?)"', script)
    assert len(messages) >= 13
    for message in messages:
        start = re.split("[:;(]", message)[0]
        constant = max(re.split(r"\$\{?\w+\}?|\\`", start), key=len).strip()
        assert constant in explained, message


def test_the_job_of_kuberay_has_every_word_in_capitals_replaced(tmp_path):
    (line,) = (line for line in lines("On Kubernetes, by KubeRay") if line.startswith("sed"))
    subprocess.run(["bash", "-c", line.replace("> job.yaml", f"> {tmp_path}/job.yaml")], cwd=ROOT, check=True)
    spec = yaml.safe_load((tmp_path / "job.yaml").read_text())["spec"]
    preset = yaml.safe_load(resources.files("study").joinpath("config/presets/quickstart.yaml").read_text())
    assert f"/studies/{preset['name']}/study.yaml" in spec["entrypoint"]
    images = set(re.findall(r"'image': '(.*?)'", str(spec)))
    assert images == {"REGISTRY/robust-study:1"}
    assert not re.search(r"\b(NAME|IMAGE|MLFLOW)\b", str(spec))


def test_the_volume_claim_is_what_the_templates_mount():
    (line,) = (line for line in lines("On Kubernetes, by KubeRay") if "PersistentVolumeClaim" in line)
    claim = yaml.safe_load(shlex.split(line)[1])
    template = resources.files("study").joinpath("cluster/templates/kuberay-rayjob.yaml").read_text()
    assert f"claimName: {claim['metadata']['name']}" in template
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
