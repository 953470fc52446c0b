"""The code keeps its shape, and each rule that says so can fail (the rules: helpers/architecture.py)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.architecture import (
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    PACKAGES,
    ROOT,
    TREE_RULES,
    broken_order,
    cycles,
    homeless,
    leaks,
    too_long,
    undeclared,
    warm,
)
from helpers.imports import modules


def tracked() -> list[Path]:
    """Every file that git tracks or would: of a tree without git, all but what .venv and caches hold."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        files = [ROOT / name for name in result.stdout.splitlines()]
    else:
        files = [path for path in ROOT.rglob("*") if not {".venv", "__pycache__", "studies"} & set(path.parts)]
    return [path for path in files if path.is_file()]


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Callable[[Path], list[str]]) -> None:
    assert len(modules(ROOT, PACKAGES)) > 10
    found = rule(ROOT)
    assert not found, "\n".join(found)


def test_no_file_or_function_is_too_long() -> None:
    files = [file for file in tracked() if file.suffix == ".py"]
    assert len(files) > 10
    found = too_long(files, ROOT)
    assert not found, "\n".join(found)


def test_no_registry_host_or_machine_path_is_written_down() -> None:
    found = leaks(tracked(), ROOT)
    assert not found, "\n".join(found)


# Each rule fails on a tree made to break it, and names the file and line.


BREAKING = {
    "analysis imports ours": (
        broken_order,
        {"analysis/a.py": "\ndef f():\n    from study import cli\n"},
        "analysis/a.py:3",
    ),
    "only for types": (
        broken_order,
        {"trainables/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import analysis.b\n"},
        "trainables/a.py:3",
    ),
    "as an import string": (
        broken_order,
        {"trainables/a.py": "X = {'x': 'study.lifecycle.launch:run'}\n", "study/lifecycle/launch.py": ""},
        "trainables/a.py:1",
    ),
    "spaces import study": (
        broken_order,
        {"search_spaces/a.py": "import study.config.schema\n"},
        "search_spaces/a.py:1",
    ),
    "ray in a method": (
        homeless,
        {"trainables/methods/a.py": "import os\nimport ray.tune\n"},
        "trainables/methods/a.py:2",
    ),
    "lazy mlflow": (
        homeless,
        {"study/lifecycle/launch.py": "def f():\n    from mlflow import x\n"},
        "study/lifecycle/launch.py:2",
    ),
    "torch in analysis": (homeless, {"analysis/a.py": "from torch import nn\n"}, "analysis/a.py:1"),
    "pyarrow elsewhere": (homeless, {"trainables/data/a.py": "import pyarrow\n"}, "trainables/data/a.py:1"),
    "a library nobody declared": (undeclared, {"study/a.py": "import requests\n"}, "study/a.py:1"),
    "a circle of two": (
        cycles,
        {"study/a.py": "import study.b\n", "study/b.py": "from study import a\n"},
        "study/b.py:1",
    ),
    "a circle through a package": (
        cycles,
        {"study/x/__init__.py": "from study.x.a import f\nC = 1\n", "study/x/a.py": "from study.x import C\nf = 1\n"},
        "study/x/a.py:1",
    ),
    "a relative circle": (
        cycles,
        {"study/x/a.py": "from .b import f\n", "study/x/b.py": "from . import a\n"},
        "study/x/b.py:1",
    ),
    "a heavy command line": (warm, {"study/cli.py": "import typer\nimport ray\n"}, "study/cli.py:2"),
    "heavy at second hand": (
        warm,
        {"study/cli.py": "from study.b import f\n", "study/b.py": "import optuna\nf = 1\n"},
        "study/cli.py:1",
    ),
    "heavy through a parent": (
        warm,
        {"study/cli.py": "import study.x.a\n", "study/x/__init__.py": "import torch\n", "study/x/a.py": ""},
        "study/cli.py:1",
    ),
    "a heavy registry": (
        warm,
        {
            "trainables/m/__init__.py": "from trainables.m.a import A\nM = Registry('m', {})\n",
            "trainables/m/a.py": "import torch\n",
        },
        "trainables/m/__init__.py:1",
    ),
    "torch in a loader": (warm, {"trainables/data/a.py": "import torch\n"}, "trainables/data/a.py:1"),
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for package in PACKAGES:
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("case", BREAKING)
def test_rule_finds(case: str, tmp_path: Path) -> None:
    rule, files, place = BREAKING[case]
    found = rule(tree(tmp_path, files))
    assert len(found) == 1, found
    assert found[0].startswith(f"{place}: ")


def test_rules_are_silent_on_what_is_allowed(tmp_path: Path) -> None:
    allowed = {
        "study/cli.py": "import typer\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import ray\n    from study.lifecycle.launch import go\n",
        "study/lifecycle/launch.py": "import ray\nfrom trainables.methods import METHODS\nimport analysis\n",
        "trainables/methods/__init__.py": "METHODS = Registry('method', {'a': 'trainables.methods.a:A'})\n",
        "trainables/methods/a.py": "import torch\nfrom trainables.methods import b\n",
        "trainables/methods/b.py": "def f():\n    from trainables.methods import a\n",
        "study/tracking/x.py": "import mlflow\n",
    }
    root = tree(tmp_path, allowed)
    assert {rule.__name__: rule(root) for rule in TREE_RULES} == {rule.__name__: [] for rule in TREE_RULES}


def test_sizes_are_found(tmp_path: Path) -> None:
    long = tmp_path / "long.py"
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    long.write_text("\n" + "def short():\n" + body[10:] + "def f():\n" + body + "\n" * MAX_FILE_LINES)
    found = too_long([long], tmp_path)
    assert [line.split(": ")[0] for line in found] == ["long.py:1", f"long.py:{MAX_FUNCTION_LINES + 2}"]


@pytest.mark.parametrize(
    "text", ["https://py" + "pi.org/x", "cd /" + "work/main", "PATH=/" + "root/bin", "a\n /" + "work/"]
)
def test_leaks_are_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    assert len(leaks([tmp_path / "file"], tmp_path)) == 1
    (tmp_path / "file").write_text("see /" + "workspace/x, network/" + "work/, https://py" + "pi.example\n")
    assert leaks([tmp_path / "file"], tmp_path) == []
