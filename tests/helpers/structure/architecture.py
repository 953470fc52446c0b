"""Rules for the structure of the code: order of packages and folders, no import cycles, sizes, names, no leaks.

Each rule is a function of a source tree that returns its violations, as "file:line: violation".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from helpers.structure.imports import Import, imports, modules

ROOT = Path(__file__).resolve().parents[3]

ORDER = {
    "trainables": set(),
    "analysis": set(),
    "search_spaces": {"trainables"},
    "study": {"search_spaces", "trainables", "analysis"},
}
PACKAGES = tuple(ORDER)

# A folder imports only from those to its right; folders between the same two signs do not import each other.
FOLDER_ORDER = {
    "study": "cli > commands > reproduce > lifecycle > reports > evaluation > driver > cluster > search tracking"
    " > directory > config > console errors",
    "analysis": "report > plots > tables material > heldout > statistics > wording > fronts > data > method_styles",
    "trainables": "training > methods evaluation > certified > attacks > models separation > data > spec"
    " > settings registry seeding runtime checkpoints",
}

# How a test runs the command line: by the fixture `command`, or in a process or container of its own.
COMMAND = re.compile(r"^def test_\w+\([^)]*\bcommand\b|\"-m\", \"study\"|\"robust-study\", \"", re.MULTILINE)

MAX_ENTRIES = 14
# File names that may occur in several folders: the interface of a folder; the numbers, table and plot of one topic.
SHARED_NAMES = {"__init__", "base", "importance"}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60

# Split, so that this file does not violate its own rule.
REGISTRY_HOSTS = ["py" + r"pi\.org", "python" + r"hosted\.", "registry" + r"\.npm", "deb" + r"\.debian"]
MACHINE_PATHS = [rf"(?<![\w.])/{name}/" for name in ("work", "farm", "root", "opt/" + "wheels", "tmp/bash" + "_jobs")]


def location(line: Import, root: Path) -> str:
    return f"{line.file.relative_to(root)}:{line.line}"


def all_imports(root: Path) -> Iterator[Import]:
    for file in modules(root, PACKAGES).values():
        yield from imports(file, root=root, packages=PACKAGES)


def wrong_package_imports(root: Path) -> list[str]:
    violations = []
    for line in all_imports(root):
        package = line.file.relative_to(root).parts[0]
        if line.top in ORDER and line.top != package and line.top not in ORDER[package]:
            violations.append(f"{location(line, root)}: {package} imports {line.target}")
    return violations


def graph_of(root: Path) -> dict[str, list[Import]]:
    """Return every import of each of our modules by another; import strings, which are resolved late, do not count."""
    files = modules(root, PACKAGES)
    return {
        name: [
            line for line in imports(file, root=root, packages=PACKAGES) if line.target in files and not line.is_string
        ]
        for name, file in files.items()
    }


def file_cycles(root: Path) -> list[str]:
    """Find cycles of files, including imports inside functions and under TYPE_CHECKING."""
    graph = graph_of(root)
    edges = {name: {line.target: line for line in lines if line.target != name} for name, lines in graph.items()}
    return [f"{location(line, root)}: import cycle: {' -> '.join(cycle)}" for cycle, line in cycles(edges)]


def folder_cycles(root: Path) -> list[str]:
    """Find cycles of folders, by the imports of their files."""
    edges: dict[str, dict[str, Import]] = {}
    for name, lines in graph_of(root).items():
        folder = folder_of(name, root)
        for line in lines:
            other = folder_of(line.target, root)
            if other != folder:
                edges.setdefault(folder, {}).setdefault(other, line)
    return [f"{location(line, root)}: cycle of folders: {' -> '.join(cycle)}" for cycle, line in cycles(edges)]


def folder_of(name: str, root: Path) -> str:
    """Return the dotted folder of a module; a file at a package's root is its own folder."""
    parts = modules(root, PACKAGES)[name].relative_to(root).parent.parts
    return ".".join(parts) if len(parts) > 1 else name


def cycles(edges: dict[str, dict[str, Import]]) -> Iterator[tuple[list[str], Import]]:
    """Yield each cycle found by depth-first search, from its first node back to it, with the import that closes it."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> Iterator[tuple[list[str], Import]]:
        if name in path:
            yield [*path[path.index(name) :], name], edges[path[-1]][name]
        elif name not in done:
            for other in edges.get(name, {}):
                yield from visit(other, [*path, name])
            done.add(name)

    for name in edges:
        yield from visit(name, [])


def wrong_folder_imports(root: Path) -> list[str]:
    """Find imports within a package against `FOLDER_ORDER`, and folders that it does not name."""
    violations = []
    for package, order in FOLDER_ORDER.items():
        rank = {name: place for place, level in enumerate(order.split(" > ")) for name in level.split()}
        for name, lines in graph_of(root).items():
            parts = name.split(".")
            if parts[0] != package or len(parts) == 1 or parts[1] == "__main__":
                continue
            folder = parts[1]
            if folder not in rank:
                file = modules(root, PACKAGES)[name].relative_to(root)
                violations.append(f"{file}:1: {folder} is not in FOLDER_ORDER")
                continue
            for line in lines:
                other = line.target.split(".")
                inside_package = other[0] == package and len(other) > 1
                if inside_package and other[1] != folder and rank.get(other[1], -1) <= rank[folder]:
                    violations.append(f"{location(line, root)}: {folder} may not import {line.target} by FOLDER_ORDER")
    return violations


def crowded_folders(root: Path) -> list[str]:
    """Find folders of the packages and of tests/ with too many entries."""
    folders = [
        path for top in (*PACKAGES, "tests") for path in [root / top, *(root / top).rglob("*/")] if path.is_dir()
    ]
    violations = []
    for folder in sorted(set(folders)):
        entries = [path for path in folder.iterdir() if path.name not in {"__init__.py", "__main__.py", "__pycache__"}]
        if folder.name != "__pycache__" and len(entries) > MAX_ENTRIES:
            violations.append(f"{folder.relative_to(root)}:1: {len(entries)} entries")
    return violations


def invalid_inits(root: Path) -> list[str]:
    """Find `__init__.py` without a docstring of one sentence on one line, or with code but no registry.

    The library's API, analysis/__init__.py, may have both: a longer docstring and code.
    """
    violations = []
    for file in modules(root, PACKAGES).values():
        if file.name != "__init__.py":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        place = f"{file.relative_to(root)}:1"
        docstring, is_api = ast.get_docstring(tree), place.startswith("analysis/__init__")
        if not docstring:
            violations.append(f"{place}: has no docstring")
        elif not is_api and (not re.fullmatch(r"[^\n]*[.]", docstring) or re.search(r"[.!?]\s+[A-Z`]", docstring)):
            violations.append(f"{place}: its docstring must be one sentence on one line")
        if len(tree.body) > 1 and not is_api and file.relative_to(root).as_posix() not in registries(root):
            violations.append(f"{place}: has code, but is not a registry")
    return violations


def ambiguous_names(root: Path) -> list[str]:
    """Find module names that occur twice in a package, and sources named like tests."""
    violations = []
    for package in PACKAGES:
        files: dict[str, Path] = {}
        for file in sorted((root / package).rglob("*.py")):
            place = f"{file.relative_to(root)}:1"
            if file.stem.startswith("test_") or file.stem.endswith("_test"):
                violations.append(f"{place}: is named like a test")
            if file.stem in files and file.stem not in SHARED_NAMES:
                violations.append(f"{place}: {file.stem} is also the name of {files[file.stem].relative_to(root)}")
            files.setdefault(file.stem, file)
    return violations


def misplaced_tests(root: Path) -> list[str]:
    """Find test files with the same name as another, or in a folder whose code they neither import nor run."""
    violations, files = [], dict[str, Path]()
    for file in sorted((root / "tests").rglob("test_*.py")):
        place = f"{file.relative_to(root)}:1"
        if file.name in files:
            violations.append(f"{place}: {file.name} is also the name of {files[file.name].relative_to(root)}")
        files.setdefault(file.name, file)
        folder = file.parent.relative_to(root / "tests")
        if not folder.parts or folder.parts[0] == "chaos":
            continue
        if not (root / folder).is_dir():
            violations.append(f"{place}: the code has no folder {folder}")
        elif not mirrors(file, folder, root):
            violations.append(f"{place}: imports nothing from {folder}")
    return violations


def mirrors(file: Path, folder: Path, root: Path) -> bool:
    """Return whether a test imports a module of the folder; in tests/study it may run the command line instead."""
    targets = {line.target for line in imports(file, root=root, packages=PACKAGES)}
    if not any((root / folder).glob("*.py")):  # templates
        folder = folder.parent
    if any(f"{target}.".startswith(f"{'.'.join(folder.parts)}.") for target in targets):
        return True
    helpers = [root / "tests" / f"{target.replace('.', '/')}.py" for target in targets if target.startswith("helpers.")]
    texts = [one.read_text(encoding="utf-8") for one in [file, *helpers] if one.is_file()]
    runs = "study.cli" in targets or any(COMMAND.search(text) for text in texts)
    return folder.parts[0] == "study" and runs


def registries(root: Path) -> set[str]:
    return {
        file.relative_to(root).as_posix()
        for file in modules(root, PACKAGES).values()
        if file.name == "__init__.py" and "= Registry(" in file.read_text(encoding="utf-8")
    }


def too_long(files: list[Path], root: Path) -> list[str]:
    violations = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > MAX_FILE_LINES:
            violations.append(f"{file.relative_to(root)}:1: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    violations.append(f"{file.relative_to(root)}:{node.lineno}: {node.name} has {lines} lines")
    return violations


def leaks(files: list[Path], root: Path) -> list[str]:
    pattern = re.compile("|".join(REGISTRY_HOSTS + MACHINE_PATHS))
    violations = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if match := pattern.search(line):
                violations.append(f"{file.relative_to(root)}:{number}: {match[0]}")
    return violations
