"""Where heavy libraries may be imported, and which modules must load none of them.

Each rule is a function of a source tree that returns what breaks it, as "file:line: what".
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from helpers.structure.architecture import PACKAGES, ROOT, all_imports, registries, where
from helpers.structure.imports import Import, imports, modules

# Where each library may be imported at all. A pattern that ends in "/" is a folder.
HOMES = {
    # on the trials' side: the class that Tune runs, and how its driver reaches it
    "ray": ["trainables/training/tune_trainable.py", "trainables/training/save_requests.py", "study/"],
    "mlflow": ["study/tracking/"],
    "optuna": ["search_spaces/", "study/search/"],
    # beside Parquet: its file systems, for checkpoints in object stores, on the trials' side and as a node checks them
    "pyarrow": [
        "analysis/data/",
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
    "scipy": ["analysis/statistics/"],
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
    "study/config/": HEAVY,
    "study/__main__.py": HEAVY,
    **{f"{package}/__init__.py": HEAVY for package in PACKAGES},
    "trainables/data/": {"torch", "torchvision", "ray"},
    "trainables/spec.py": HEAVY,
}

DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn"}


def inside(file: Path, patterns: list[str], root: Path) -> bool:
    path = file.relative_to(root).as_posix()
    return any(path == pattern or (pattern.endswith("/") and path.startswith(pattern)) for pattern in patterns)


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
