"""Words and phrases that this project's texts avoid, since a plainer one says the same."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from study.cli import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("analysis", "search_spaces", "study", "trainables")
BANNED = (
    "anew",
    "begun",
    "beneath",
    "broke off",
    "given up",
    "is answered",
    "is said",
    "lacks",
    "made again",
    "nobody",
    "somebody",
    "stands",
    "told apart",
    "whatever",
    "without a word",
)
PATTERN = re.compile(r"\b(" + "|".join(BANNED).replace(" ", r"\s+") + r")\b", re.IGNORECASE)

# Keys of stored files, and a reason in rows of earlier versions.
STORED = ("begun", "beneath", "the worker died without a word")

Text = tuple[str, int, str]
"""The file that a text is in, its first line there, and the text."""


def offences(texts: Iterator[Text]) -> list[str]:
    return [
        f"{place}:{line + text[: found.start()].count(chr(10))}: {found[0]}"
        for place, line, text in texts
        for found in PATTERN.finditer(text)
    ]


def texts_of_pages() -> Iterator[Text]:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield path.relative_to(ROOT).as_posix(), 1, path.read_text(encoding="utf-8")


def texts_of_makefile() -> Iterator[Text]:
    for number, line in enumerate((ROOT / "Makefile").read_text(encoding="utf-8").splitlines(), start=1):
        if found := re.match(r"[a-z]+:.*## (.+)", line):
            yield "Makefile", number, found[1]


def texts_of_help() -> Iterator[Text]:
    group = typer.main.get_command(app)
    yield "robust-study", 1, group.help or ""
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield f"robust-study {name}", 1, "\n".join([command.help, *(one.help or "" for one in command.params)])


def texts_of_strings(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> Iterator[Text]:
    """The string literals of the code, except docstrings and `STORED`."""
    for place, text in texts_of_files(root, packages):
        tree = ast.parse(text)
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                if node.value not in STORED:
                    yield place, node.lineno, node.value


def texts_of_docstrings(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> Iterator[Text]:
    """The docstrings of the code, without the names of arguments and attributes, and its comments."""
    for place, text in texts_of_files(root, packages):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield place, node.lineno, re.sub(r"^ +\w+:", "", str(node.value.value), flags=re.MULTILINE)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield place, token.start[0], token.string


def texts_of_files(root: Path, packages: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


# Each source, and a number of texts that it has more of: that it is read.
SOURCES = {
    "pages": (texts_of_pages, 15),
    "Makefile": (texts_of_makefile, 8),
    "help": (texts_of_help, 15),
    "strings": (texts_of_strings, 3000),
    "docstrings and comments": (texts_of_docstrings, 1000),
}


@pytest.mark.parametrize("source", SOURCES)
def test_no_text_has_a_banned_word(source: str) -> None:
    read, fewer = SOURCES[source]
    texts = list(read())
    assert len(texts) > fewer
    assert offences(iter(texts)) == []


def test_an_offence_is_found_with_its_line() -> None:
    text = "Nothing\nis\nsaid, nobody\nasked; standstill, unbegun"
    assert offences(iter([("page.md", 1, text)])) == ["page.md:2: is\nsaid", "page.md:3: nobody"]


def test_strings_are_distinguished_from_docstrings_and_comments(tmp_path: Path) -> None:
    package = tmp_path / "study"
    package.mkdir()
    (package / "module.py").write_text(
        '"""Nobody reads this docstring as a message."""\n'
        'KEYS = ("begun", "beneath")\n'
        "def f(console, x):\n"
        '    """Nor this.\n\n    Args:\n        begun: It stands.\n    """\n'
        '    console.print(f"trial {x} was begun")  # whatever it is\n'
        '    findings.wrong("a" + "file lacks a row")\n'
    )
    assert sorted(offences(texts_of_strings(tmp_path, ("study",)))) == [
        "study/module.py:10: lacks",
        "study/module.py:9: begun",
    ]
    assert sorted(offences(texts_of_docstrings(tmp_path, ("study",)))) == [
        "study/module.py:1: Nobody",
        "study/module.py:7: stands",
        "study/module.py:9: whatever",
    ]
