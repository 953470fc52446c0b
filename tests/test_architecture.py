"""The code follows the rules for its structure (helpers/structure), and each rule finds its violations."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.structure.architecture import (
    FOLDER_ORDER,
    MAX_ENTRIES,
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    PACKAGES,
    ROOT,
    ambiguous_names,
    crowded_folders,
    file_cycles,
    folder_cycles,
    invalid_inits,
    leaks,
    misplaced_tests,
    too_long,
    wrong_folder_imports,
    wrong_package_imports,
)
from helpers.structure.imports import modules
from helpers.structure.libraries import heavy_loads, misplaced_imports, undeclared_imports

TREE_RULES: list[Callable[[Path], list[str]]] = [
    wrong_package_imports,
    wrong_folder_imports,
    file_cycles,
    folder_cycles,
    crowded_folders,
    invalid_inits,
    ambiguous_names,
    misplaced_tests,
    misplaced_imports,
    undeclared_imports,
    heavy_loads,
]


def tracked() -> list[Path]:
    """Return every file that git tracks or would track; without git, all files except in .venv, caches and studies."""
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
    violations = rule(ROOT)
    assert not violations, "\n".join(violations)


def test_no_file_or_function_is_too_long() -> None:
    files = [file for file in tracked() if file.suffix == ".py"]
    assert len(files) > 10
    violations = too_long(files, ROOT)
    assert not violations, "\n".join(violations)


def test_no_file_has_a_registry_host_or_a_machine_path() -> None:
    violations = leaks(tracked(), ROOT)
    assert not violations, "\n".join(violations)


# Each rule finds the violation in a tree made for it, with file and line.

VIOLATIONS = {
    "analysis imports ours": (
        wrong_package_imports,
        {"analysis/material.py": "\ndef f():\n    from study import cli\n"},
        "analysis/material.py:3",
    ),
    "only for types": (
        wrong_package_imports,
        {"trainables/spec.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import analysis.wording\n"},
        "trainables/spec.py:3",
    ),
    "as an import string": (
        wrong_package_imports,
        {"trainables/spec.py": "X = {'x': 'study.cli:main'}\n", "study/cli.py": ""},
        "trainables/spec.py:1",
    ),
    "spaces import study": (
        wrong_package_imports,
        {"search_spaces/a.py": "import study.cli\n"},
        "search_spaces/a.py:1",
    ),
    "upwards": (
        wrong_folder_imports,
        {"study/search/a.py": "import study.driver.b\n", "study/driver/b.py": ""},
        "study/search/a.py:1",
    ),
    "upwards in a function": (
        wrong_folder_imports,
        {"analysis/data/a.py": "def f():\n    from analysis.tables import b\n", "analysis/tables/b.py": ""},
        "analysis/data/a.py:2",
    ),
    "upwards only for types": (
        wrong_folder_imports,
        {
            "study/errors.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import study.config.b\n",
            "study/config/b.py": "",
        },
        "study/errors.py:3",
    ),
    "sideways": (
        wrong_folder_imports,
        {"study/search/a.py": "import study.tracking.b\n", "study/tracking/b.py": ""},
        "study/search/a.py:1",
    ),
    "a folder missing from the order": (wrong_folder_imports, {"study/misc/a.py": ""}, "study/misc/a.py:1"),
    "a cycle of two": (
        file_cycles,
        {"study/search/a.py": "import study.search.b\n", "study/search/b.py": "from study.search import a\n"},
        "study/search/b.py:1",
    ),
    "a cycle through a function": (
        file_cycles,
        {
            "study/search/a.py": "import study.search.b\n",
            "study/search/b.py": "def f():\n    import study.search.a\n",
        },
        "study/search/b.py:2",
    ),
    "a cycle through a package": (
        file_cycles,
        {"study/x/__init__.py": "from study.x.a import f\nC = 1\n", "study/x/a.py": "from study.x import C\nf = 1\n"},
        "study/x/a.py:1",
    ),
    "a relative cycle for types": (
        file_cycles,
        {
            "study/x/a.py": "from .b import f\n",
            "study/x/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a\n",
        },
        "study/x/b.py:3",
    ),
    "a cycle of folders": (
        folder_cycles,
        {
            "analysis/plots/a.py": "import analysis.plots.trials.b\n",
            "analysis/plots/c.py": "",
            "analysis/plots/trials/b.py": "def f():\n    import analysis.plots.c\n",
        },
        "analysis/plots/trials/b.py:2",
    ),
    "a crowded folder": (
        crowded_folders,
        {f"study/search/a{number}.py": "" for number in range(MAX_ENTRIES + 1)},
        "study/search:1",
    ),
    "a crowded folder of tests": (
        crowded_folders,
        {f"tests/study/test_{number}.py": "" for number in range(MAX_ENTRIES + 1)},
        "tests/study:1",
    ),
    "a package without a docstring": (invalid_inits, {"study/x/__init__.py": ""}, "study/x/__init__.py:1"),
    "a package of two sentences": (
        invalid_inits,
        {"study/x/__init__.py": '"""X. It is light."""\n'},
        "study/x/__init__.py:1",
    ),
    "a package of two lines": (
        invalid_inits,
        {"study/x/__init__.py": '"""X and\ny."""\n'},
        "study/x/__init__.py:1",
    ),
    "code in a package": (invalid_inits, {"study/x/__init__.py": '"""X."""\nX = 1\n'}, "study/x/__init__.py:1"),
    "one name twice": (ambiguous_names, {"study/x/a.py": "", "study/y/a.py": ""}, "study/y/a.py:1"),
    "a source named like a test": (ambiguous_names, {"study/on_test.py": ""}, "study/on_test.py:1"),
    "one name of two tests": (
        misplaced_tests,
        {"tests/study/test_a.py": "import study\n", "tests/test_a.py": ""},
        "tests/test_a.py:1",
    ),
    "a test of another folder": (
        misplaced_tests,
        {
            "study/search/a.py": "",
            "study/searching.py": "",
            "tests/study/search/test_a.py": "import study.searching\nfrom analysis import x\n",
        },
        "tests/study/search/test_a.py:1",
    ),
    "a command in the tests of the library": (
        misplaced_tests,
        {
            "analysis/data/a.py": "",
            "tests/analysis/data/test_a.py": "def test_a(command):\n    from study import cli\n",
        },
        "tests/analysis/data/test_a.py:1",
    ),
    "a test folder without code": (misplaced_tests, {"tests/study/gone/test_a.py": ""}, "tests/study/gone/test_a.py:1"),
    "ray in a method": (
        misplaced_imports,
        {"trainables/methods/a.py": "import os\nimport ray.tune\n"},
        "trainables/methods/a.py:2",
    ),
    "lazy mlflow": (misplaced_imports, {"study/cli.py": "def f():\n    from mlflow import x\n"}, "study/cli.py:2"),
    "torch in analysis": (misplaced_imports, {"analysis/a.py": "from torch import nn\n"}, "analysis/a.py:1"),
    "pyarrow elsewhere": (misplaced_imports, {"trainables/data/a.py": "import pyarrow\n"}, "trainables/data/a.py:1"),
    "an undeclared library": (undeclared_imports, {"study/a.py": "import requests\n"}, "study/a.py:1"),
    "a heavy command line": (heavy_loads, {"study/cli.py": "import typer\nimport ray\n"}, "study/cli.py:2"),
    "heavy indirectly": (
        heavy_loads,
        {"study/cli.py": "from study.b import f\n", "study/b.py": "import optuna\nf = 1\n"},
        "study/cli.py:1",
    ),
    "heavy through a parent": (
        heavy_loads,
        {"study/cli.py": "import study.x.a\n", "study/x/__init__.py": "import torch\n", "study/x/a.py": ""},
        "study/cli.py:1",
    ),
    "a heavy config": (heavy_loads, {"study/config/a.py": "import torch\n"}, "study/config/a.py:1"),
    "a heavy registry": (
        heavy_loads,
        {
            "trainables/m/__init__.py": "from trainables.m.a import A\nM = Registry('m', {})\n",
            "trainables/m/a.py": "import torch\n",
        },
        "trainables/m/__init__.py:1",
    ),
    "torch in a loader": (heavy_loads, {"trainables/data/a.py": "import torch\n"}, "trainables/data/a.py:1"),
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for package in PACKAGES:
        (root / package).mkdir()
        (root / package / "__init__.py").write_text(f'"""{package}."""')
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_every_rule_has_a_tree_that_violates_it() -> None:
    assert {rule for rule, _, _ in VIOLATIONS.values()} == set(TREE_RULES)


@pytest.mark.parametrize("case", VIOLATIONS)
def test_rule_finds(case: str, tmp_path: Path) -> None:
    rule, files, place = VIOLATIONS[case]
    violations = rule(tree(tmp_path, files))
    assert len(violations) == 1, violations
    assert violations[0].startswith(f"{place}: ")


def test_rules_find_nothing_in_an_allowed_tree(tmp_path: Path) -> None:
    allowed = {
        "study/cli.py": "import typer\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import ray\n    from study.lifecycle.launch import go\n",
        "study/lifecycle/launch.py": "import ray\nfrom trainables.methods import METHODS\nimport analysis\n"
        "from study.tracking import x\n",
        "trainables/methods/__init__.py": '"""Methods."""\nMETHODS = Registry("m", {"a": "trainables.methods.a:A"})\n',
        "trainables/methods/a.py": "import torch\nfrom trainables.methods import b\n",
        "trainables/methods/b.py": "import trainables.spec\n",
        "trainables/spec.py": "",
        "study/tracking/x.py": "import mlflow\nimport study.errors\n",
        "study/errors.py": "",
        "tests/study/tracking/test_x.py": "def f():\n    from study.tracking.x import y\n",
        "tests/study/tracking/test_y.py": "from study.tracking import x\n",
        "tests/study/tracking/test_z.py": "def test_z(x, command):\n    command(x)\n",
        "tests/study/tracking/test_v.py": "from helpers.studies.small import Small\n",
        "tests/helpers/studies/small.py": 'LINE = ["python", "-m", "study"]\n',
        "tests/test_all.py": "",
    }
    root = tree(tmp_path, allowed)
    assert {rule.__name__: rule(root) for rule in TREE_RULES} == {rule.__name__: [] for rule in TREE_RULES}


def test_the_order_names_every_folder_and_file() -> None:
    for package, order in FOLDER_ORDER.items():
        folder = ROOT / package
        names = {path.stem for path in [*folder.glob("*.py"), *folder.glob("*/__init__.py")]} - {"__init__", "__main__"}
        names |= {path.parent.name for path in folder.glob("*/__init__.py")}
        assert set(order.replace(">", " ").split()) == names


def test_sizes_are_found(tmp_path: Path) -> None:
    long = tmp_path / "long.py"
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    long.write_text("\n" + "def short():\n" + body[10:] + "def f():\n" + body + "\n" * MAX_FILE_LINES)
    violations = too_long([long], tmp_path)
    assert [line.split(": ")[0] for line in violations] == ["long.py:1", f"long.py:{MAX_FUNCTION_LINES + 2}"]


@pytest.mark.parametrize(
    "text", ["https://py" + "pi.org/x", "cd /" + "work/main", "PATH=/" + "root/bin", "a\n /" + "work/"]
)
def test_leaks_are_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    assert len(leaks([tmp_path / "file"], tmp_path)) == 1
    (tmp_path / "file").write_text("see /" + "workspace/x, network/" + "work/, https://py" + "pi.example\n")
    assert leaks([tmp_path / "file"], tmp_path) == []
