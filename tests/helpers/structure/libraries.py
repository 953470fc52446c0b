"""Where heavy libraries may be imported, and which modules must not load them.

Each rule is a function of a source tree that returns its violations, as "file:line: violation".
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from helpers.structure.architecture import PACKAGES, ROOT, all_imports, location, registries
from helpers.structure.imports import Import, imports, modules

# Where each library may be imported at all. A pattern that ends in "/" is a folder.
HOMES = {
    # in trainables/: the class that Tune runs, and the messages between it and its driver
    "ray": ["trainables/training/tune_trainable.py", "trainables/training/save_requests.py", "study/"],
    "mlflow": ["study/tracking/"],
    "optuna": ["search_spaces/", "study/search/"],
    "sqlalchemy": ["study/config/file_urls.py"],
    # besides Parquet: its file systems, for checkpoints in object stores and a node's check of them
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
    "sqlalchemy",
    "pyarrow",
    "pandas",
    "matplotlib",
    "plotly",
    "sklearn",
    "scipy",
    "numba",
}
# Libraries that loading these modules must not load, neither directly nor through our other modules.
LIGHT = {
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


def misplaced_imports(root: Path) -> list[str]:
    return [
        f"{location(line, root)}: imports {line.target}, allowed in {', '.join(HOMES[line.top])} only"
        for line in all_imports(root)
        if line.top in HOMES and not inside(line.file, HOMES[line.top], root)
    ]


def undeclared_imports(root: Path) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    undistributed = sys.stdlib_module_names | set(PACKAGES)
    return [
        f"{location(line, root)}: {line.top} is not a dependency in pyproject.toml"
        for line in all_imports(root)
        if line.top not in undistributed and DISTRIBUTIONS.get(line.top, line.top) not in declared
    ]


def loaded_by(root: Path) -> dict[str, list[Import]]:
    """Return the imports that run when each of our modules is loaded."""
    return {
        name: [line for line in imports(file, root=root, packages=PACKAGES) if line.at_load]
        for name, file in modules(root, PACKAGES).items()
    }


def heavy_loads(root: Path) -> list[str]:
    graph = loaded_by(root)
    rules = LIGHT | dict.fromkeys(registries(root), HEAVY)
    exempt = HOMES["torchvision"]
    violations = []
    for name, file in modules(root, PACKAGES).items():
        banned = {
            library for pattern, libraries in rules.items() if inside(file, [pattern], root) for library in libraries
        }
        if not banned or inside(file, exempt, root):
            continue
        for chain in chains(name, graph):
            if chain[-1].top in banned:
                route = " -> ".join(line.target for line in chain)
                place = location(chain[0], root)
                violations.append(f"{place}: loading {name} loads {chain[-1].top}: {name} -> {route}")
    return violations


def chains(name: str, graph: dict[str, list[Import]]) -> list[list[Import]]:
    """Return the shortest chain of imports from module `name` to everything that loading it imports."""
    routes: list[list[Import]] = []
    queue: list[tuple[str, list[Import]]] = [(name, [])]
    visited = {name}
    while queue:
        module, path = queue.pop(0)
        for line in graph[module]:
            routes.append([*path, line])
            parts = line.target.split(".")
            for target in (".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
                if target in graph and target not in visited:
                    visited.add(target)
                    queue.append((target, [*path, line]))
    return routes
