"""The rules of the code's shape: order of packages and folders, no circles, sizes, names, nothing that leaks.

Each rule is a function of a source tree that returns what breaks it, as "file:line: what".
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

# A folder imports only from those to its right; folders joined in one string import none of each other.
FOLDER_ORDER = {
    "study": "cli > commands > reproduce > lifecycle > reports > evaluation > driver > cluster > search tracking"
    " > directory > config > console errors",
    "analysis": "report > plots > tables material > heldout > statistics > wording > fronts > data > method_styles",
    "trainables": "training > methods evaluation > certified > attacks > models separation > data > spec"
    " > settings registry seeding runtime checkpoints",
}

MAX_ENTRIES = 14
# Names that several folders of a package may use: the contract of a folder, and one thing's numbers, table and figure.
SHARED_NAMES = {"__init__", "base", "importance"}
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


def broken_order(root: Path) -> list[str]:
    found = []
    for one in all_imports(root):
        owner = one.file.relative_to(root).parts[0]
        if one.top in ORDER and one.top != owner and one.top not in ORDER[owner]:
            found.append(f"{where(one, root)}: {owner} imports {one.target}")
    return found


def graph_of(root: Path) -> dict[str, list[Import]]:
    """For each module of ours, every import in it of a module of ours; import strings, resolved late, do not count."""
    known = modules(root, PACKAGES)
    return {
        name: [one for one in imports(file, root=root, packages=PACKAGES) if one.target in known and not one.is_string]
        for name, file in known.items()
    }


def file_cycles(root: Path) -> list[str]:
    """Circles of files, imports inside functions and under TYPE_CHECKING included."""
    graph = graph_of(root)
    edges = {name: {one.target: one for one in found if one.target != name} for name, found in graph.items()}
    return [f"{where(line, root)}: imports in a circle: {' -> '.join(ring)}" for ring, line in circles(edges)]


def folder_cycles(root: Path) -> list[str]:
    """Circles of folders, of what their own files import of each other."""
    edges: dict[str, dict[str, Import]] = {}
    for name, found in graph_of(root).items():
        own = folder_of(name, root)
        for one in found:
            other = folder_of(one.target, root)
            if other != own:
                edges.setdefault(own, {}).setdefault(other, one)
    return [f"{where(line, root)}: folders in a circle: {' -> '.join(ring)}" for ring, line in circles(edges)]


def folder_of(name: str, root: Path) -> str:
    """Return the folder, dotted, in which a module lies; the files at a package's root stand for themselves."""
    parts = modules(root, PACKAGES)[name].relative_to(root).parent.parts
    return ".".join(parts) if len(parts) > 1 else name


def circles(edges: dict[str, dict[str, Import]]) -> Iterator[tuple[list[str], Import]]:
    """Yield each circle met on a walk, from its first node back to it, with the import that closes it."""
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


def wrong_direction(root: Path) -> list[str]:
    """Imports within a package that go against `FOLDER_ORDER`, and folders that it does not name."""
    found = []
    for package, order in FOLDER_ORDER.items():
        rank = {name: place for place, level in enumerate(order.split(" > ")) for name in level.split()}
        for name, lines in graph_of(root).items():
            own = name.split(".")
            if own[0] != package or len(own) == 1 or own[1] == "__main__":
                continue
            if own[1] not in rank:
                found.append(f"{modules(root, PACKAGES)[name].relative_to(root)}:1: {own[1]} has no place in the order")
                continue
            for one in lines:
                other = one.target.split(".")
                inside_package = other[0] == package and len(other) > 1
                if inside_package and other[1] != own[1] and rank.get(other[1], -1) <= rank[own[1]]:
                    found.append(f"{where(one, root)}: {own[1]} imports {one.target}, which stands above or beside it")
    return found


def crowded(root: Path) -> list[str]:
    """Folders of the packages and of tests/ with too many entries."""
    folders = [
        path for top in (*PACKAGES, "tests") for path in [root / top, *(root / top).rglob("*/")] if path.is_dir()
    ]
    found = []
    for folder in sorted(set(folders)):
        entries = [path for path in folder.iterdir() if path.name not in {"__init__.py", "__main__.py", "__pycache__"}]
        if folder.name != "__pycache__" and len(entries) > MAX_ENTRIES:
            found.append(f"{folder.relative_to(root)}:1: {len(entries)} entries")
    return found


def busy_inits(root: Path) -> list[str]:
    """Packages without a sentence of purpose, or with code where no registry and no library front is."""
    found = []
    for file in modules(root, PACKAGES).values():
        if file.name != "__init__.py":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        place = f"{file.relative_to(root)}:1"
        if not ast.get_docstring(tree):
            found.append(f"{place}: says no purpose")
        allowed = place.startswith("analysis/__init__") or file.relative_to(root).as_posix() in registries(root)
        if len(tree.body) > 1 and not allowed:
            found.append(f"{place}: holds code, and is no registry")
    return found


def ambiguous_names(root: Path) -> list[str]:
    """Module names that stand twice in a package, and sources named like tests."""
    found = []
    for package in PACKAGES:
        seen: dict[str, Path] = {}
        for file in sorted((root / package).rglob("*.py")):
            place = f"{file.relative_to(root)}:1"
            if file.stem.startswith("test_") or file.stem.endswith("_test"):
                found.append(f"{place}: is named like a test")
            if file.stem in seen and file.stem not in SHARED_NAMES:
                found.append(f"{place}: {file.stem} is the name of {seen[file.stem].relative_to(root)} too")
            seen.setdefault(file.stem, file)
    return found


def misplaced_tests(root: Path) -> list[str]:
    """Test files whose name stands twice, or that lie in no folder that mirrors the code."""
    found, seen = [], dict[str, Path]()
    for file in sorted((root / "tests").rglob("test_*.py")):
        place = f"{file.relative_to(root)}:1"
        if file.name in seen:
            found.append(f"{place}: {file.name} is the name of {seen[file.name].relative_to(root)} too")
        seen.setdefault(file.name, file)
        folder = file.parent.relative_to(root / "tests")
        if folder.parts and folder.parts[0] != "chaos" and not (root / folder).is_dir():
            found.append(f"{place}: there is no folder {folder} in the code")
    return found


def registries(root: Path) -> set[str]:
    return {
        file.relative_to(root).as_posix()
        for file in modules(root, PACKAGES).values()
        if file.name == "__init__.py" and "= Registry(" in file.read_text(encoding="utf-8")
    }


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
