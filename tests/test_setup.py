"""The set-up's own facts: pyproject.toml, constraints.txt, Makefile, Dockerfile and .ci/run agree with each other."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"trainables", "search_spaces", "study", "analysis"}
HEAVY = ["matplotlib", "mlflow", "optuna", "pandas", "pyarrow", "ray", "scipy", "torch"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    return {normal(line.split("==")[0]): line for line in lines}


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", dockerfile))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def of_kind(kind: str) -> list[str]:
    return [value for name, value in instructions(read("Dockerfile")) if name == kind]


# pyproject.toml, constraints.txt and CITATION.cff


def test_the_citation_is_of_this_version_and_of_the_paper(project: dict) -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert (citation["title"], citation["version"]) == (project["project"]["name"], project["project"]["version"])
    assert citation["authors"] == project["project"]["authors"]
    (paper,) = citation["references"]
    assert paper["title"] in " ".join(read("README.md").split())
    assert paper["authors"][0]["family-names"] == "Yang"


def test_wheel_holds_every_file_of_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    """In a plain install a preset or a subpackage that the wheel lacks would be missed; the editable one hides it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/**/*") if path.is_file()}
    code = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(tmp_path / result.stdout.splitlines()[-1]) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == written


def test_every_requirement_is_ranged_and_pinned_within_its_range(project: dict, pins: dict[str, str]) -> None:
    from packaging.requirements import Requirement

    extras = project["project"]["optional-dependencies"]
    lines = project["project"]["dependencies"] + [line for extra in extras.values() for line in extra]
    for requirement in map(Requirement, lines):
        assert requirement.specifier, f"{requirement} has no range"
        assert not any(part.operator == "==" for part in requirement.specifier), f"{requirement} is pinned"
        pin = pins.get(normal(requirement.name))
        assert pin, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pin.split("==")[1]), f"{pin} is outside {requirement}"


def test_pins_are_exact_and_admit_any_build(pins: dict[str, str]) -> None:
    for name, line in pins.items():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line), f"{line!r} is not an exact version"
        assert not name.startswith("nvidia-"), f"{line} ties the pins to one kind of machine"
    assert pins["torch"] == "torch==2.13.0"


def closure(*, extras: set[str]) -> dict[str, str]:
    """Name and version of every distribution that the project needs, itself not included."""
    from importlib.metadata import distribution

    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    todo = [("robust-study", extra) for extra in {"", *extras}]
    seen = set(todo)
    while todo:
        name, extra = todo.pop()
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found[normal(requirement.name)] = distribution(requirement.name).version
                new = {(normal(requirement.name), wanted) for wanted in {"", *requirement.extras}} - seen
                seen |= new
                todo.extend(new)
    return found


def test_what_is_installed_is_what_is_pinned(pins: dict[str, str]) -> None:
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("these tests do not run in this checkout's .venv")
    needed = closure(extras={"dev"})
    assert len(needed) > 100
    for name, version in needed.items():
        if not name.startswith(("nvidia-", "cuda-", "triton")):
            assert pins.get(name, "no pin").endswith(f"=={version.split('+')[0]}"), (
                f"{name} {version}: {pins.get(name)}"
            )


def test_command_is_the_cli(project: dict) -> None:
    assert project["project"]["scripts"] == {"robust-study": "study.cli:main"}


# Makefile and .ci/run


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout in a path with spaces, with only what make reads."""
    folder = tmp_path / "a folder" / "with spaces"
    folder.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A make that runs these tests hands its own flags down through the environment.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def stamp(folder: Path, *, made_in: Path) -> Path:
    path = folder / ".venv" / ".stamp"
    path.parent.mkdir(exist_ok=True)
    path.write_text(str(made_in))
    return path


@pytest.mark.parametrize("target", ["setup", "quickstart", "test", "long", "lint", "bench", "ui", "chaos"])
def test_target_builds_the_environment_first(copy: Path, target: str) -> None:
    planned = make(copy, "--dry-run", target).stdout
    assert "-m venv --clear .venv" in planned
    assert "--extra dev" in planned
    assert "uv pip install --no-deps --editable ." in planned


def test_second_call_installs_nothing(copy: Path) -> None:
    stamp(copy, made_in=copy)
    assert make(copy, "--question", "setup").returncode == 0
    assert "venv --clear" not in make(copy, "--dry-run", "test").stdout


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_rebuild(copy: Path, changed: str) -> None:
    made = stamp(copy, made_in=copy).stat().st_mtime
    os.utime(copy / changed, (made + 10, made + 10))
    assert make(copy, "--question", "setup").returncode == 1


def test_environment_that_was_copied_from_elsewhere_is_rebuilt(copy: Path) -> None:
    stamp(copy, made_in=copy.parent / "another place")
    assert make(copy, "--question", "setup").returncode == 1


def test_old_python_is_refused_in_one_sentence(copy: Path) -> None:
    old = copy / "python3.9"
    old.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c 'import sys; "
        'sys.version_info = (3, 9, 2); sys.version = "3.9.2 (old)"; exec(sys.argv[1])\' "$2"\n'
    )
    old.chmod(0o755)
    result = make(copy, "setup", "PYTHON=./python3.9")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer; ./python3.9 is 3.9.2" in result.stderr
    assert not (copy / ".venv").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "unset"), ("", "unset"), ("/wheels", "/wheels"), ("/wheels  /more", "/wheels,/more")],
)
def test_uv_looks_for_wheels_where_pip_does(copy: Path, monkeypatch, given: str | None, expected: str) -> None:
    """Run the recipe with stand-ins for Python and uv, which write down what they are given."""
    tools = copy / ".venv" / "bin"
    fake = copy / "python"
    fake.write_text(
        '#!/bin/sh\nif [ "$2" = venv ]; then mkdir -p .venv/bin; cp python uv .venv/bin/; fi\n', encoding="utf-8"
    )
    (copy / "uv").write_text('#!/bin/sh\necho "${UV_FIND_LINKS-unset}|$VIRTUAL_ENV|$*" >> calls\n', encoding="utf-8")
    for name in ("python", "uv"):
        (copy / name).chmod(0o755)
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    if given is not None:
        monkeypatch.setenv("PIP_FIND_LINKS", given)
    result = make(copy, "setup", "PYTHON=./python")
    assert result.returncode == 0, result.stderr
    assert tools.is_dir()
    calls = (copy / "calls").read_text().splitlines()
    assert [call.split("|")[:2] for call in calls] == [[expected, ".venv"]] * 2
    assert make(copy, "--question", "setup").returncode == 0


@pytest.mark.parametrize("exists", [False, True])
def test_quickstart_goes_on_with_the_study_it_finds(copy: Path, *, exists: bool) -> None:
    stamp(copy, made_in=copy)
    command = copy / ".venv" / "bin" / "robust-study"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "$@"\n')
    command.chmod(0o755)
    if exists:
        (copy / "studies" / "quickstart").mkdir(parents=True)
        (copy / "studies" / "quickstart" / "study.yaml").touch()
    assert make(copy, "quickstart").stdout == ("resume studies/quickstart\n" if exists else "launch quickstart\n")


def test_ci_runs_lint_then_tests_last() -> None:
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    commands = [line for line in read(".ci/run").splitlines() if line.startswith("make")]
    assert commands == ["make lint", "make long", "make test"]
    assert "set -euo pipefail" in read(".ci/run")


# Dockerfile


def test_dockerfile_lints() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed here (the dev extra brings it)")
    result = subprocess.run([str(hadolint), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_everything_copied_exists_and_reaches_the_builder() -> None:
    ignored = read(".dockerignore").splitlines()
    sources = [source for line in of_kind("COPY") for source in line.split()[:-1]]
    assert {source.rstrip("/") for source in sources} >= PACKAGES | {"pyproject.toml", "constraints.txt"}
    for source in sources:
        assert (ROOT / source).exists(), f"COPY {source}: not there"
        assert f"!{source.rstrip('/')}" in ignored, f"COPY {source}: kept out by .dockerignore"


def test_image_installs_by_the_makefiles_line() -> None:
    line = re.search(r"^INSTALL := (.+)$", read("Makefile"), re.MULTILINE)
    assert line
    assert [run for run in of_kind("RUN") if line[1] in run], f"no RUN has {line[1]!r}"
    assert [run for run in of_kind("RUN") if "uv pip install --no-deps ." in run]


def test_a_source_change_does_not_reinstall_torch(project: dict) -> None:
    steps = instructions(read("Dockerfile"))
    install = next(at for at, (kind, text) in enumerate(steps) if kind == "RUN" and "--requirements" in text)
    before = {source for kind, text in steps[:install] if kind == "COPY" for source in text.split()[:-1]}
    assert before == {"pyproject.toml", "constraints.txt"}
    extras = set(re.findall(r"--extra (\S+)", steps[install][1]))
    assert extras <= project["project"]["optional-dependencies"].keys() - {"dev"}


def test_image_runs_as_nobody_special_and_answers_with_help() -> None:
    assert of_kind("USER")[-1] not in {"root", "0"}
    assert [json.loads(line) for line in of_kind("CMD")] == [["robust-study", "--help"]]
    assert not of_kind("ENTRYPOINT")
    assert of_kind("FROM")[0].startswith("nvidia/cuda:")


# the slow tests


def test_every_file_listed_as_slow_exists() -> None:
    from conftest import SLOW

    assert set(SLOW) <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


# start-up


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, study.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
