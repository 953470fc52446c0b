"""The imports of a source tree, read without running any of it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMPORT_STRING = re.compile(r"([a-z_]\w*(?:\.\w+)*):[A-Za-z_]\w*")


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is the dotted module, and for `from m import n` the module m.n where that is one."""

    file: Path
    line: int
    target: str
    at_load: bool
    is_string: bool = False

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


def module_name(file: Path, /, *, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules(root: Path, packages: tuple[str, ...], /) -> dict[str, Path]:
    """Dotted name to file of every module of the packages under `root`."""
    files = sorted(file for package in packages for file in (root / package).rglob("*.py"))
    return {module_name(file, root=root): file for file in files}


@functools.cache
def imports(file: Path, /, *, root: Path, packages: tuple[str, ...]) -> tuple[Import, ...]:
    """Every import in `file`, those inside functions included, and registry entries such as "package.module:object".

    `at_load` is true for what runs when the module is imported: not for functions' bodies, TYPE_CHECKING blocks and
    import strings.
    """
    known = modules(root, packages)
    name = module_name(file, root=root)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: list[Import] = []
    for node, at_load in _walk(ast.parse(file.read_text(encoding="utf-8")), at_load=True):
        for target in _targets(node, package, known):
            found.append(Import(file, node.lineno, target, at_load, isinstance(node, ast.Constant)))
    return tuple(found)


def _walk(node: ast.AST, *, at_load: bool) -> Iterator[tuple[ast.stmt | ast.expr, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = at_load and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), at_load=False)
            for statement in child.orelse:
                yield from _walk(ast.Module([statement], []), at_load=inside)
            continue
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, inside
        elif isinstance(child, ast.Constant):
            yield child, False
        yield from _walk(child, at_load=inside)


def _targets(node: ast.stmt | ast.expr, package: str, known: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        match = IMPORT_STRING.fullmatch(node.value)
        return [match[1]] if match and match[1] in known else []
    return []
