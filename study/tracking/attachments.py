"""The files that hang on a trial's run: its per-example outcomes and its traceback."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.data.files import COMPACTED, trial_files
from analysis.data.results import read_examples, trial_file, write_table
from analysis.data.schema import EXAMPLE

ERRORS = "errors"
ERROR_FOLDER = "error"
"""Folder of the traceback among a run's artifacts."""


@contextmanager
def attachments(study_dir: Path, trial_id: str, /) -> Iterator[list[tuple[Path, str]]]:
    """Yield a trial's files, each with its folder among the run's artifacts.

    A finished study keeps one file of all trials' outcomes; from that a trial's own is made again.
    """
    with tempfile.TemporaryDirectory(prefix="robust-study-") as scratch:
        examples = trial_file(study_dir, trial_id, schema=EXAMPLE)
        if not examples.exists():
            table = read_examples(study_dir, trials=[trial_id], skip_damaged=True)
            examples = Path(scratch) / examples.name
            if table.num_rows:
                write_table(examples, table)
        traceback = study_dir / ERRORS / f"{trial_id}.txt"
        pairs = ((examples, EXAMPLE.folder), (traceback, ERROR_FOLDER))
        yield [(path, folder) for path, folder in pairs if path.exists()]


def attached(study_dir: Path, /) -> dict[str, list[str]]:
    """Return by trial the paths that its run must have among its artifacts."""
    found: dict[str, list[str]] = {}
    measured: set[str] = set()
    for path in trial_files(study_dir / EXAMPLE.folder):
        compacted = path.name == COMPACTED
        measured |= set(read_examples(path)["trial_id"].unique().to_pylist()) if compacted else {path.stem}
    for trial in sorted(measured):
        found.setdefault(trial, []).append(f"{EXAMPLE.folder}/{trial}.parquet")
    for path in sorted((study_dir / ERRORS).glob("*.txt")):
        found.setdefault(path.stem, []).append(f"{ERROR_FOLDER}/{path.name}")
    return found
