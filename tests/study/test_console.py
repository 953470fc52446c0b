"""The consoles: no text harms a terminal, and no terminal or pipe ends a study."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.structure.architecture import ROOT
from rich.table import Table

from analysis.wording import L_INF
from study.console import SPELT, notes, quoted, results

PRINTED = """
from rich.table import Table
from study.console import notes, open_outputs, results
open_outputs()
table = Table("train ε", "n", title="front · \\u2113∞")
table.add_row("0.1 ± 0.02 …", "漢")
for console in (results(), notes()):
    console.print(table)
results().print("≤ 8 · " + chr(0xDCE9))
print("ε and \\u2605")
"""


def run(code: str, /, **options) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, **options)


def command(words: str, /, shell: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours in a line of shell, where it is `$RUN`."""
    line = f"exec_it() {{ {sys.executable} -m study {words}; }}; {shell}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def test_texts_print_no_escape_sequences(capsys):
    reason = "out\x1b[2Jof \x1b]0;title\x07memory\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x9b31m\b\rend\nit"
    table = Table("reason")
    table.add_row(reason)
    results().print(table)
    notes().print(reason)
    out, err = capsys.readouterr()
    assert err == "outof memorylink31mend\nit\n"
    assert not set("\x1b\x07\x9b\b\r") & set(out)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_text_is_printed_in_every_encoding(encoding):
    ended = run(PRINTED, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False)
    lines = ended.stdout.decode(encoding).splitlines()
    if encoding == "ascii":
        assert lines[0].strip() == "front - linf"
        assert {len(line) for line in lines[1:-2]} == {len(lines[1])}, lines  # columns are aligned
        assert "0.1 +/- 0.02 ..." in lines[-4]
        assert "\\u6f22" in lines[-4]
        assert lines[-2:] == [r"<= 8 - \udce9", r"eps and \u2605"]
    else:
        assert lines[-2].endswith(r"8 · \udce9")


def test_each_of_our_own_signs_has_a_spelling():
    """Signs in figures and reports are in files, which are UTF-8."""
    folders = [ROOT / "study", *(ROOT / "analysis" / name for name in ("tables", "fronts", "heldout", "statistics"))]
    files = [ROOT / "analysis/wording.py", *(path for folder in folders for path in folder.rglob("*.py"))]
    signs = {sign for path in files for sign in re.findall(r"[^\x00-\x7f]", path.read_text(encoding="utf-8"))}
    assert signs | set(L_INF) <= set(SPELT)


def test_json_stays_json_where_letters_cannot_be_shown(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file := io.BytesIO(), encoding="ascii"))
    results().print_json(data={"folder": "é漢"})
    sys.stdout.flush()
    assert json.loads(file.getvalue()) == {"folder": "é漢"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "reader"), [("list methods", "head -1"), ("--help", "true"), ("launch --help", "head -1")]
)
def test_a_reader_that_leaves_early_is_no_failure(words, reader):
    ended = command(words, "exec_it | " + reader + "; echo ${PIPESTATUS[0]}")
    assert (ended.stdout.splitlines()[-1], ended.stderr) == ("0", "")


@pytest.mark.long
def test_work_goes_on_when_the_reader_of_its_notes_has_gone(tmp_path):
    code = f"""
from pathlib import Path
from study.console import notes, open_outputs, results
open_outputs()
for number in range(20000):
    notes().print(f"trial {{number}}")
results().print("the front")
Path({str(tmp_path / "end")!r}).write_text("reached")
"""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=write, check=False)
    os.close(write)
    assert ended.returncode == 0
    assert (tmp_path / "end").read_text() == "reached"


@pytest.mark.parametrize(
    ("words", "shell", "code"),
    [
        ("list schedulers", "exec_it >&-", 0),
        ("list schedulers", "exec_it >&- 2>&-", 0),
        ("status none", "exec_it 2>&-", 2),
        ("status none", "exec_it 2>/dev/full", 2),
        ("status none", "exec_it 2>&1 | true; exit ${PIPESTATUS[0]}", 2),
    ],
)
def test_closed_and_full_outputs_change_no_exit_code(words, shell, code):
    assert command(words, shell).returncode == code


@pytest.mark.parametrize("words", ["list schedulers", "--help"])
def test_results_that_a_full_disk_cuts_off_are_one_line(words):
    ended = command(words, "exec_it >/dev/full")
    assert ended.returncode == 1
    assert ended.stderr == (
        "robust-study: the output could not be written (No space left on device); what is in files is complete\n"
    )


def test_a_folder_that_has_gone_or_is_not_utf8_is_one_line(tmp_path):
    ended = command("list methods", f"mkdir '{tmp_path}/x'; cd '{tmp_path}/x'; rmdir '{tmp_path}/x'; exec_it")
    assert ended.returncode == 2
    assert ended.stderr.endswith("robust-study: the working folder no longer exists: change to another one\n")
    ended = command("status $'caf\\xe9'", "exec_it")
    assert ended.returncode == 2
    assert ended.stderr == r"robust-study: names of files and folders must be UTF-8, got 'caf\udce9': rename it" + "\n"


def test_a_folder_in_a_command_is_quoted_where_the_shell_would_split_it():
    assert quoted(Path("studies/quickstart")) == "studies/quickstart"
    assert quoted(Path("my runs/it's")) == "'my runs/it'\"'\"'s'"
