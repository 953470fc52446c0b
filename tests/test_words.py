"""Words and phrases that this project's texts avoid, since a plainer one says the same."""

from __future__ import annotations

import ast
import re
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

# Packages whose messages are held to the list.
HELD_MESSAGES = PACKAGES

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


def texts_of_messages(root: Path = ROOT, packages: tuple[str, ...] = HELD_MESSAGES) -> Iterator[Text]:
    """The string literals of every `raise`, and of every call that prints or makes a `UsageError`."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            seen = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Raise) and not (isinstance(node, ast.Call) and speaks(node.func)):
                    continue
                for one in ast.walk(node):
                    if isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in seen:
                        seen.add(id(one))
                        yield path.relative_to(root).as_posix(), one.lineno, one.value


def speaks(called: ast.expr) -> bool:
    """Whether a call puts its words before a user: print, console.print, progress.say, notes, UsageError."""
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in {"print", "say", "notes", "UsageError"}


SOURCES = {
    "pages": texts_of_pages,
    "Makefile": texts_of_makefile,
    "help": texts_of_help,
    "messages": texts_of_messages,
}


@pytest.mark.parametrize("source", SOURCES)
def test_no_text_has_a_banned_word(source: str) -> None:
    assert offences(SOURCES[source]()) == []


def test_each_source_is_read() -> None:
    assert len(list(texts_of_pages())) > 15
    assert len(list(texts_of_makefile())) > 8
    assert len(list(texts_of_help())) > 15
    assert len(list(texts_of_messages(packages=PACKAGES))) > 100


def test_an_offence_is_found_with_its_line() -> None:
    text = "Nothing\nis\nsaid, nobody\nasked; standstill, unbegun"
    assert offences(iter([("page.md", 1, text)])) == ["page.md:2: is\nsaid", "page.md:3: nobody"]


def test_messages_are_what_a_user_reads(tmp_path: Path) -> None:
    package = tmp_path / "study"
    package.mkdir()
    (package / "module.py").write_text(
        '"""Nobody reads this docstring as a message."""\n'
        'NAME = "whatever"\n'
        "def f(console, x):\n"
        '    """Nor this: begun."""\n'
        '    console.print(f"trial {x} was begun")\n'
        '    raise ValueError("a" + "file lacks a row")\n'
    )
    assert sorted(offences(texts_of_messages(tmp_path, ("study",)))) == [
        "study/module.py:5: begun",
        "study/module.py:6: lacks",
    ]
