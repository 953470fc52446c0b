"""The rules of the code's shape: import order, homes of heavy libraries, no cycles, sizes, nothing that leaks.

Each rule is a function of a source tree that returns what breaks it, as "file:line: what".
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers.imports import Import, imports, modules

ROOT = Path(__file__).resolve().parents[2]

ORDER = {
    "trainables": set(),
    "analysis": set(),
    "search_spaces": {"trainables"},
    "study": {"search_spaces", "trainables", "analysis"},
}
PACKAGES = tuple(ORDER)

# Where each library may be imported at all. A pattern that ends in "/" is a folder.
HOMES = {
    # on the trials' side: the class that Tune runs, and how its driver reaches it
    "ray": ["trainables/training/tune_trainable.py", "trainables/training/save_requests.py", "study/"],
    "mlflow": ["study/tracking/"],
    "optuna": [
        "search_spaces/",
        "study/search/importance.py",
        "study/search/searcher.py",
        "study/search/samplers.py",
        "study/search/storage.py",
        "study/search/time_budget.py",
    ],
    # beside Parquet: its file systems, for checkpoints in object stores, on the trials' side and as a node checks them
    "pyarrow": [
        "analysis/data/results.py",
        "analysis/data/files.py",
        "analysis/data/compaction.py",
        "analysis/data/combine.py",
        "trainables/data/parquet.py",
        "trainables/checkpoints/files.py",
        "study/cluster/probes.py",
    ],
    "matplotlib": ["analysis/plots/"],
    "plotly": ["analysis/plots/"],
    "moocore": ["analysis/fronts/front.py"],
    "numba": ["trainables/separation/kernels.py"],
    "torchvision": ["trainables/data/torchvision_import.py"],
    "torch": ["trainables/", "study/"],
    "sklearn": ["trainables/data/"],
    "pydantic": ["study/"],
    "typer": ["study/"],
    "rich": ["study/", "analysis/tables/text_table.py"],
}

HEAVY = {
    "torch",
    "torchvision",
    "ray",
    "mlflow",
    "optuna",
    "pyarrow",
    "pandas",
    "matplotlib",
    "plotly",
    "sklearn",
    "scipy",
    "numba",
}
# What loading these modules must not load, neither directly nor through modules of ours.
COLD = {
    "study/cli.py": HEAVY,
    "study/config/schema.py": HEAVY,
    "study/__main__.py": HEAVY,
    **{f"{package}/__init__.py": HEAVY for package in PACKAGES},
    "trainables/data/": {"torch", "torchvision", "ray"},
    "trainables/spec.py": HEAVY,
}

DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn"}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60

# In pieces, so that this file does not break its own rule.
REGISTRY_HOSTS = ["py" + r"pi\.org", "python" + r"hosted\.", "registry" + r"\.npm", "deb" + r"\.debian"]
MACHINE_PATHS = [rf"(?<![\w.])/{name}/" for name in ("work", "farm", "root", "opt/" + "wheels", "tmp/bash" + "_jobs")]


def where(found: Import, root: Path) -> str:
    return f"{found.file.relative_to(root)}:{found.line}"


def all_imports(root: Path) -> Iterator[Import]:
    for file in modules(root, PACKAGES).values():
        yield from imports(file, root=root, packages=PACKAGES)


def inside(file: Path, patterns: list[str], root: Path) -> bool:
    path = file.relative_to(root).as_posix()
    return any(path == pattern or (pattern.endswith("/") and path.startswith(pattern)) for pattern in patterns)


def broken_order(root: Path) -> list[str]:
    found = []
    for one in all_imports(root):
        owner = one.file.relative_to(root).parts[0]
        if one.top in ORDER and one.top != owner and one.top not in ORDER[owner]:
            found.append(f"{where(one, root)}: {owner} imports {one.target}")
    return found


def homeless(root: Path) -> list[str]:
    return [
        f"{where(one, root)}: imports {one.target}, whose home is {', '.join(HOMES[one.top])}"
        for one in all_imports(root)
        if one.top in HOMES and not inside(one.file, HOMES[one.top], root)
    ]


def undeclared(root: Path) -> list[str]:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in lines["optional-dependencies"].values() for line in extra]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in [*lines["dependencies"], *extras]}
    known = sys.stdlib_module_names | set(PACKAGES)
    return [
        f"{where(one, root)}: {one.top} is no dependency in pyproject.toml"
        for one in all_imports(root)
        if one.top not in known and DISTRIBUTIONS.get(one.top, one.top) not in declared
    ]


def loaded_by(root: Path) -> dict[str, list[Import]]:
    """For each module of ours, the imports that run when it is loaded."""
    return {
        name: [one for one in imports(file, root=root, packages=PACKAGES) if one.at_load]
        for name, file in modules(root, PACKAGES).items()
    }


def cycles(root: Path) -> list[str]:
    graph = loaded_by(root)
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            ring = [*path[path.index(name) :], name]
            line = next(one for one in graph[path[-1]] if one.target == name)
            found.append(f"{where(line, root)}: imports in a circle: {' -> '.join(ring)}")
        elif name not in done:
            for one in graph[name]:
                if one.target in graph and one.target != name:
                    visit(one.target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def registries(root: Path) -> set[str]:
    return {
        file.relative_to(root).as_posix()
        for file in modules(root, PACKAGES).values()
        if file.name == "__init__.py" and "= Registry(" in file.read_text(encoding="utf-8")
    }


def warm(root: Path) -> list[str]:
    graph = loaded_by(root)
    rules = COLD | dict.fromkeys(registries(root), HEAVY)
    exempt = HOMES["torchvision"]
    found = []
    for name, file in modules(root, PACKAGES).items():
        banned = {
            library for pattern, libraries in rules.items() if inside(file, [pattern], root) for library in libraries
        }
        if not banned or inside(file, exempt, root):
            continue
        for chain in chains(name, graph):
            if chain[-1].top in banned:
                route = " -> ".join(one.target for one in chain)
                found.append(f"{where(chain[0], root)}: loading {name} loads {chain[-1].top}: {name} -> {route}")
    return found


def chains(name: str, graph: dict[str, list[Import]]) -> list[list[Import]]:
    """Return the first way from module `name` to everything that loading it imports."""
    found: list[list[Import]] = []
    todo: list[tuple[str, list[Import]]] = [(name, [])]
    seen = {name}
    while todo:
        module, path = todo.pop(0)
        for one in graph[module]:
            found.append([*path, one])
            parts = one.target.split(".")
            for target in (".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
                if target in graph and target not in seen:
                    seen.add(target)
                    todo.append((target, [*path, one]))
    return found


def too_long(files: list[Path], root: Path) -> list[str]:
    found = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > MAX_FILE_LINES:
            found.append(f"{file.relative_to(root)}:1: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    found.append(f"{file.relative_to(root)}:{node.lineno}: {node.name} has {lines} lines")
    return found


def leaks(files: list[Path], root: Path) -> list[str]:
    pattern = re.compile("|".join(REGISTRY_HOSTS + MACHINE_PATHS))
    found = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if match := pattern.search(line):
                found.append(f"{file.relative_to(root)}:{number}: {match[0]}")
    return found


TREE_RULES: list[Callable[[Path], list[str]]] = [broken_order, homeless, undeclared, cycles, warm]
