"""Commands that change a finished study, ended at some of their changes to files: repeated, they give the same.

A change is the opening of a file to write, a renaming, a deletion or a new folder below the study. Just before one of
them the process is killed, or the disk becomes full for good.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers.studies.small_study import PATIENCE_SECONDS, SmallStudy

from analysis.data.files import COMPACTED
from analysis.data.results import examples_file, read_epochs, read_evaluations, read_examples, read_results
from analysis.data.schema import EPOCH, EVALUATION, EXAMPLE, RESULT

pytestmark = pytest.mark.chaos

TRIALS = 3
MOST = {"compact": 8, "evaluate": 8, "sync": 8, "confirm": 5}
"""Most steps of each command that are tried, spread over all of them."""

ENDED_AT = """
import errno, os, signal, sys
changes, last, fault, root = 0, int(sys.argv[1]), sys.argv[2], sys.argv[3]
def watch(event, words):
    global changes
    written = event == "open" and isinstance(words[2], int) and words[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    moved = event in ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate")
    if not (written or moved) or isinstance(words[0], int) or not os.path.abspath(words[0]).startswith(root):
        return
    changes += 1
    if changes == last and fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if last and changes >= last and event in ("open", "os.mkdir"):
        raise OSError(errno.ENOSPC, "No space left on device", str(words[0]))
sys.addaudithook(watch)
try:
    if sys.argv[4] == "compact":
        from analysis.data.compaction import compact
        compact(root)
    else:
        from study.cli import main
        sys.argv[:] = ["robust-study", *sys.argv[4:]]
        main()
finally:
    print("changes:", changes)
"""

COMMANDS = {
    "compact": ("compact",),
    "evaluate": ("evaluate", "studies/small", "--trial", "00000", "--trial", "00001", "--limit", "100"),
    "sync": ("sync", "studies/small"),
    "confirm": ("confirm", "studies/small", "--seeds", "2", "--max", "1", "--limit", "100"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the working folder of a finished study that has a file for each trial's rows, and has lost its MLflow."""
    study = SmallStudy(
        tmp_path_factory.mktemp("finished") / "place",
        {
            "training": {"epochs": 2},
            "evaluation": {"every": 1},
            "search": {"num_trials": TRIALS},
            "storage": {"keep": "all"},
        },
    )
    assert study.launch().wait(400) == 0, study.output
    for kind in ("results", "epochs", "examples"):
        merged = pq.read_table(study.dir / kind / COMPACTED)
        (study.dir / kind / COMPACTED).unlink()
        for number in range(TRIALS):
            trial = f"{number:05d}"
            pq.write_table(merged.filter(pc.equal(merged["trial_id"], trial)), study.dir / kind / f"{trial}.parquet")
    (study.folder / "mlflow.db").unlink()
    shutil.copytree(study.folder, study.folder.with_name("original"))
    return study.folder


@pytest.mark.parametrize("fault", ["killed", "disk full"])
@pytest.mark.parametrize("command", COMMANDS)
def test_ended_at_any_change_and_repeated_it_gives_the_same(finished, command, fault, note):
    whole = started(finished, command, ended_at=0, fault=fault)
    assert whole.returncode == 0, whole.stderr
    changes = int(re.search(r"changes: (\d+)", whole.stdout)[1])
    expected, codes = state(finished), set()
    most = MOST[command]
    steps = sorted({1 + step * (changes - 1) // (most - 1) for step in range(most)})
    for last in steps:
        broken = started(finished, command, ended_at=last, fault=fault)
        codes.add(broken.returncode)
        if fault == "disk full" and command != "compact":
            assert "Traceback" not in broken.stderr, broken.stderr
            assert broken.returncode == 0 or re.search("disk is full|No space left", broken.stderr), broken.stderr
        again = started(finished, command, fault=fault)
        assert again.returncode == 0, (last, again.stderr)
        assert state(finished) == expected, last
    note(
        f"{command}: {fault} at {len(steps)} of {changes} changes",
        f"exit codes {sorted(codes)}",
        "repeated, it is complete",
    )


def started(folder, command, *, ended_at=None, fault):
    """Run a command, in the folder as it first was and ended at a change (0: at none), or as it is."""
    if ended_at is not None:
        shutil.rmtree(folder)
        shutil.copytree(folder.with_name("original"), folder)
    study = folder / "studies" / "small"
    line = [sys.executable, "-c", ENDED_AT, str(ended_at or 0), fault, str(study), *COMMANDS[command]]
    return subprocess.run(
        line, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}, capture_output=True,
        text=True, check=False, timeout=PATIENCE_SECONDS,
    )  # fmt: skip


def state(folder):
    """Return what a study's files and MLflow hold, without times and places."""
    study = SmallStudy(folder)
    stored = study.runs() if (folder / "mlflow.db").exists() else {}
    runs = {trial: sorted(statuses) for trial, statuses in stored.items()}
    leftovers = sorted(path.name for path in study.dir.rglob("*.tmp"))
    return {"small": contents(study.dir), "confirm": contents(study.dir / "confirm"), "runs": runs, "left": leftovers}


def contents(study_dir):
    """Return the rows of a study's folder; those of commands that may be repeated without times and places."""
    if not study_dir.is_dir():
        return {}
    read = {RESULT: read_results, EPOCH: read_epochs, EXAMPLE: read_examples}
    rows = {schema: reader(study_dir).to_pylist() for schema, reader in read.items()}
    if (study_dir / "evaluations").is_dir():
        rows[EVALUATION] = read_evaluations(study_dir).to_pylist()
        files = [examples_file(study_dir, row["evaluation"]) for row in rows[EVALUATION]]
        rows[EXAMPLE] += [row for file in files for row in read_examples(file).to_pylist()]
    repeated = rows if study_dir.name == "confirm" else {EVALUATION}
    found = {schema: _without_circumstances(schema, rows[schema]) for schema in repeated if schema in rows}
    return {schema.name: sorted(map(repr, each)) for schema, each in (rows | found).items()}


def _without_circumstances(schema, rows):
    names = {column.name for column in schema.columns if not column.deterministic}
    return [{name: value for name, value in row.items() if name not in names} for row in rows]
