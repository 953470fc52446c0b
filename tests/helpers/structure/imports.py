"""The imports of a source tree, found without running it."""

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
    """One imported name: `target` is the dotted module; for `from m import n` it is m.n if that is a module."""

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
    """Return the dotted name and file of every module of the packages under `root`."""
    files = sorted(file for package in packages for file in (root / package).rglob("*.py"))
    return {module_name(file, root=root): file for file in files}


@functools.cache
def imports(file: Path, /, *, root: Path, packages: tuple[str, ...]) -> tuple[Import, ...]:
    """Return every import in `file`, also inside functions, and registry entries such as "package.module:object".

    `at_load` is true for imports that run when the module is imported: not in functions, in TYPE_CHECKING blocks or in
    import strings.
    """
    files = modules(root, packages)
    name = module_name(file, root=root)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    lines: list[Import] = []
    for node, at_load in _walk(ast.parse(file.read_text(encoding="utf-8")), at_load=True):
        for target in _targets(node, package, files):
            lines.append(Import(file, node.lineno, target, at_load, isinstance(node, ast.Constant)))
    return tuple(lines)


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


def _targets(node: ast.stmt | ast.expr, package: str, files: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, *([base] if base else [])])
        return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in files else base for alias in node.names]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        match = IMPORT_STRING.fullmatch(node.value)
        return [match[1]] if match and match[1] in files else []
    return []
