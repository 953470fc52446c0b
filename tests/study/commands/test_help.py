"""`--help`: three groups of commands, nothing cut at 80 columns, and each command's purpose in one short line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from study.cli import PANELS, app
from study.commands.catalogue import KINDS

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MAX_FIRST_LINE = 55


@pytest.fixture
def help_of(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def shown(*words: str) -> str:
        with pytest.raises(SystemExit) as caught:
            app([*words, "--help"], prog_name="robust-study")
        assert caught.value.code == 0
        return capsys.readouterr().out

    return shown


def first_line(name: str) -> str:
    return COMMANDS[name].help.splitlines()[0]


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in PANELS.values() for name in names]
    assert sorted(grouped) == sorted(COMMANDS)


def test_the_commands_stand_under_three_headings_with_their_whole_first_lines(help_of) -> None:
    text = help_of()
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.replace("COMMAND [ARGS]...", "")
    assert list(PANELS) == re.findall(r"^(\w+):$", text.partition("Show this message and exit.")[2], re.MULTILINE)
    for title, names in PANELS.items():
        section = re.search(rf"^{title}:\n((?:  .+\n)+)", text, re.MULTILINE)
        assert section
        shown = [line.split(maxsplit=1) for line in section[1].splitlines()]
        assert shown == [[name, first_line(name)] for name in names]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_first_line_is_short_and_a_sentence_of_its_own(name) -> None:
    first, *rest = COMMANDS[name].help.splitlines()
    assert len(first) <= MAX_FIRST_LINE
    assert re.fullmatch(r"[A-Z].*\.", first)
    assert rest[:1] in ([], [""])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_commands_help_explains_everything_and_fits(help_of, name) -> None:
    text = help_of(name)
    assert max(map(len, text.splitlines())) <= 80
    assert first_line(name) in text
    for parameter in COMMANDS[name].params:
        # a hidden option exists to be refused with advice
        assert parameter.hidden or re.match(r"\w.*\.", parameter.help), parameter.name


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_arguments_have_names_of_their_own_without_types_and_braces(help_of, name) -> None:
    usage, _, rest = help_of(name).partition("\n\n")
    assert not set("{}<>") & set(usage)
    section = re.search(r"^Arguments:\n((?:  .+\n)+)", rest, re.MULTILINE)
    shown = re.findall(r"^  (\S.*?)(?:  .*)?$", section[1] if section else "", re.MULTILINE)
    assert shown == [param.metavar for param in COMMANDS[name].params if param.param_type_name == "argument"]
    assert len(set(shown)) == len(shown)


def test_list_names_every_kind_that_it_takes(help_of) -> None:
    text = help_of("list")
    assert [kind for kind in KINDS if not re.search(rf"\b{kind}\b", text)] == []


def test_the_readme_shows_the_same_groups_and_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for title, names in PANELS.items():
        section = re.search(rf"^\*\*{title}\*\*.*?```bash\n(.*?)```", readme, re.MULTILINE | re.DOTALL)
        assert section, title
        shown = re.findall(r"^robust-study (\w+)", section[1], re.MULTILINE)
        assert set(names) <= set(shown), title


def test_help_needs_no_terminal() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "TERM"}}
    result = subprocess.run(
        [sys.executable, "-m", "study", "--help"],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert f"  separation  {first_line('separation')}" in result.stdout
