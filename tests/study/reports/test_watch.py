"""`status --watch`: what it shows of a study in each state, that it only reads, and how it ends."""

from __future__ import annotations

import io
import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers.studies.synthetic_results import result_row
from rich.console import Console

from analysis.data.compaction import compact
from analysis.data.results import write_rows
from analysis.data.schema import RESULT
from study.config.loading import load_config, write_yaml
from study.directory.lock import RECORD_FILE, SILENT_SECONDS, process_start
from study.reports import watch
from study.reports.watch import WatchedStudy
from study.reports.watch import watch as follow


@pytest.fixture
def study(tmp_path) -> Path:
    """A study of four trials that has not begun."""
    folder = tmp_path / "toy"
    folder.mkdir()
    write_yaml(folder / "study.yaml", load_config("quickstart", assignments=["search.num_trials=4"]).to_dict())
    return folder


def add(folder: Path, number: int, **changes: object) -> None:
    started = datetime.now(UTC) - timedelta(seconds=60 - 10 * number)
    row = result_row(number, started_at=started.isoformat(), **changes)
    write_rows(folder / "results" / f"{row['trial_id']}.parquet", [row], RESULT)


def run_by(folder: Path, *, host: str | None = None) -> None:
    record = {"pid": os.getpid(), "host": host or socket.gethostname(), "begun": process_start(os.getpid())}
    (folder / RECORD_FILE).write_text(json.dumps(record | {"since": "2026-01-01T00:00:00+00:00"}))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and bytes, and every folder with the time at which an entry came or went."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def text_of(study: WatchedStudy, capsys: pytest.CaptureFixture[str]) -> str:
    study.refresh()
    watch.results().print(study.view(width=80, height=24))
    return capsys.readouterr().out


def test_each_state_of_a_study_and_nothing_is_written(study, capsys):
    watched = WatchedStudy(study)
    before = contents(study)
    text = text_of(watched, capsys)
    assert "0 of 4 trials done\nno front yet" in text
    assert f"no process runs it; continue it with: robust-study resume {study}" in text
    assert contents(study) == before
    run_by(study)
    for number, robust in enumerate([0.2, 0.5]):
        add(study, number, val_clean_accuracy=0.9 - 0.1 * robust, val_robust_accuracy=robust)
    add(study, 2, status="failed", reason="diverged", val_clean_accuracy=None, val_robust_accuracy=None)
    before = contents(study)
    text = text_of(watched, capsys)
    assert "study quickstart: 3 of 4 trials done · " in text
    assert " a minute · about " in text
    assert "robust 0.500 at clean ≥ 0.83 · hypervolume 0.431 · front 2 · 1 failed, first: diverged" in text
    assert "O front (2)   . other trials (0)" in text
    assert f"run by process {os.getpid()} on " in text
    assert contents(study) == before
    add(study, 3)
    (study / RECORD_FILE).unlink()
    assert ", complete\n" in text_of(watched, capsys)
    assert watched.complete


def test_a_file_is_read_once_and_compacting_changes_nothing(study, capsys, monkeypatch):
    add(study, 0)
    watched = WatchedStudy(study)
    text_of(watched, capsys)
    read = []
    monkeypatch.setattr(watch, "read_file", lambda path, schema: read.append(path.name) or real(path, schema))
    add(study, 1)
    shown = text_of(watched, capsys)
    assert read == ["t00001.parquet"]
    compact(study)
    again = text_of(watched, capsys)
    assert read == ["t00001.parquet", "compacted.parquet"]
    assert again.splitlines()[:-1] == shown.splitlines()[:-1]
    text_of(watched, capsys)
    assert len(read) == 2


real = watch.read_file


def test_files_that_vanish_while_they_are_read_are_no_error_and_damaged_ones_are_counted(study, capsys, monkeypatch):
    add(study, 0)
    add(study, 1)
    listed = watch.trial_files(study / "results")
    (study / "results" / "t00001.parquet").unlink()
    monkeypatch.setattr(watch, "trial_files", lambda folder: listed)
    watched = WatchedStudy(study)
    text = text_of(watched, capsys)
    assert "1 of 4 trials done" in text
    assert "cannot be read" not in text
    (study / "results" / "t00001.parquet").write_bytes(b"PAR1")
    assert "1 result file cannot be read" in text_of(watched, capsys)


def test_a_driver_on_another_host_runs_while_its_record_is_renewed(study, capsys, monkeypatch):
    """Its clock may differ, and asking the file system for its own would write to the folder."""
    now = [1000.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    run_by(study, host="another")
    os.utime(study / RECORD_FILE, (5.0, 5.0))
    watched = WatchedStudy(study)
    before = contents(study)
    assert "on another" in text_of(watched, capsys)
    now[0] += SILENT_SECONDS + 1
    assert "no process runs it" in text_of(watched, capsys)
    assert contents(study) == before
    os.utime(study / RECORD_FILE, (20.0, 20.0))
    assert "on another" in text_of(watched, capsys)


def test_its_storage_is_not_opened_even_for_a_time_budget(study, capsys, monkeypatch):
    write_yaml(study / "study.yaml", load_config("quickstart", assignments=["search.time_budget=1h"]).to_dict())
    monkeypatch.setattr("study.search.optuna_study.open_search", lambda *words: pytest.fail("opened"))
    add(study, 0)
    assert text_of(WatchedStudy(study), capsys).endswith(", no process runs it\n")
    assert not (study / "optuna.db").exists()


def test_without_a_terminal_it_prints_snapshots_until_the_driver_has_ended(study, command, monkeypatch):
    run_by(study)
    steps = iter([lambda: add(study, 0), (study / RECORD_FILE).unlink])
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(steps)())
    code, out, err = command("status", study, "--watch")
    assert (code, err) == (0, "")
    counts = [line for line in out.splitlines() if line.startswith("study quickstart: ")]
    assert [line.partition(" · ")[0][18:] for line in counts] == [
        "0 of 4 trials done", "1 of 4 trials done", "1 of 4 trials done",
    ]  # fmt: skip
    assert "\x1b" not in out


def test_ctrl_c_ends_it_quietly(study, command, monkeypatch):
    def press(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", press)
    code, out, err = command("status", study, "--watch")
    assert (code, err) == (0, "")
    assert out.count("study quickstart: ") == 1


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_gets_its_own_screen_and_keeps_the_last_view(study, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, soft_wrap=True, highlight=False)
    monkeypatch.setattr(watch, "results", lambda: console)
    run_by(study)
    add(study, 0)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: (study / RECORD_FILE).unlink())
    follow(study)
    drawn = console.file.getvalue()
    inside, _, after = drawn.partition("\x1b[?1049l")
    if term == "dumb":
        assert "\x1b[?1049h" not in drawn
        assert drawn.count("1 of 4 trials done") == 2
    else:
        assert inside.startswith("\x1b[?1049h")
        assert inside.count("1 of 4 trials done") == 2
        assert after.count("1 of 4 trials done") == 1
        assert "\x1b" not in after


def test_a_complete_study_is_shown_once(study, command):
    for number in range(4):
        add(study, number)
    code, out, _ = command("status", study, "--watch")
    assert (code, out.count("study quickstart: 4 of 4 trials done\n")) == (0, 1)


def test_json_and_a_folder_without_a_study_are_refused(study, command, tmp_path):
    code, out, err = command("status", study, "--watch", "--json")
    assert (code, out) == (2, "")
    assert err == "robust-study: --watch draws for a reader: leave out --json, or ask again without --watch\n"
    (tmp_path / "empty").mkdir()
    for folder, problem in (("empty", "is not a study folder"), ("none", "does not exist")):
        code, out, err = command("status", folder, "--watch")
        assert (code, out, problem in err) == (2, "", True)
