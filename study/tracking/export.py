"""The command `export`: result rows and per-example outcomes, from MLflow alone or from a folder."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.results import read_examples, read_results, to_table, write_table
from analysis.data.schema import EXAMPLE, RESULT, ResultsError
from study.config.values import absolute, unreadable
from study.console import notes, results
from study.directory.layout import open_config
from study.errors import UsageError
from study.tracking.client import connect, short
from study.tracking.row_mapping import BENEATH_TAG, STUDY, STUDY_TAG, TRIAL_TAG, row_from_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DOWNLOADS = 8
"""Artifacts fetched at a time."""


def export(
    study_dir: Path | None, /, *, uri: str | None, experiment: str | None, out: Path, study: str | None = None
) -> None:
    """Write rows to `out` and per-example outcomes beside it, as `NAME.examples.parquet`.

    Args:
        study_dir: A study's folder; None to read from MLflow.
        uri: Tracking URI.
        experiment: Name of the experiment there.
        out: A `.parquet` or `.csv` file.
        study: Name or id of the one study there to export; every study when None, of each name the newest.

    Raises:
        UsageError: Neither or both sources, a file of another kind, nothing to export, or a store without it.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out must end in .parquet or .csv, got {out}")
    if (study_dir is None) == (uri is None) or (uri is None) != (experiment is None):
        raise UsageError("export takes either a STUDY_DIR, or --mlflow URI together with --experiment NAME")
    if study is not None and uri is None:
        raise UsageError("--study chooses among the studies of --mlflow; a STUDY_DIR holds one")
    beside = out.with_suffix(".examples.parquet")
    try:
        if study_dir is not None:
            open_config(study_dir)
            rows, examples = read_results(study_dir), read_examples(study_dir)
        else:
            rows, examples = from_mlflow(str(uri), str(experiment), study=study)
        if not rows.num_rows:
            raise UsageError(f"{study_dir or experiment} has no finished trials to export")
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".csv":
            write_csv(out, rows)
        else:
            write_table(out, rows)
        if examples.num_rows:
            write_table(beside, examples)
    except (ResultsError, OSError) as error:
        raise UsageError(str(error)) from error
    results().print(f"{rows.num_rows} rows: {out}", soft_wrap=True, highlight=False)
    if examples.num_rows:
        results().print(f"{examples.num_rows} per-example outcomes: {beside}", soft_wrap=True, highlight=False)


def from_mlflow(uri: str, experiment: str, /, *, study: str | None = None) -> tuple[Any, Any]:
    """Return the result rows and the per-example outcomes of an experiment's studies.

    Of studies of one name the newest counts, and new seeds of a study's trials do not, unless `study` names them; what
    is left out is named in a note.

    Raises:
        UsageError: The store cannot be reached, or has no such experiment or study.
        ResultsError: What is there is of another version of this project.
    """
    from study.tracking.client import runs_of

    if (problem := unreadable(uri)) is not None:
        raise UsageError(f"--mlflow {problem}")
    try:
        client = connect(absolute(uri))
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(sorted(one.name for one in client.search_experiments()))
            raise UsageError(f"{uri} has no experiment {experiment!r}; it has: {names}")
        runs = list(runs_of(client, found.experiment_id, f"tags.`{TRIAL_TAG}` != ''"))
    except UsageError:
        raise
    except Exception as error:  # MLflow has no common class for what a store that is not there raises
        raise UsageError(f"MLflow at {uri} cannot be read: {short(error)}") from error
    chosen = [(run, row) for run in _chosen(runs, study) if (row := row_from_tags(run.data.tags)) is not None]
    columns = dict.fromkeys(column for _, row in chosen for column in row)
    rows = to_table({column: [row.get(column) for _, row in chosen] for column in columns}, RESULT, where=uri)
    rows = rows.sort_by([(name, "ascending") for name in RESULT.order])
    return rows, _examples(client, chosen)


def _chosen(runs: Iterable[Run], study: str | None) -> list[Run]:
    """Return the runs of trials of the studies to be exported; runs come oldest first.

    New seeds of a study's trials are no trials of a study: they would enter its front a second time.

    Raises:
        UsageError: `study` is none of them.
    """
    runs = list(runs)
    parents = {run.data.tags[STUDY_TAG]: run for run in runs if _trial(run) == STUDY}
    names = {study_id: str(run.data.tags.get("study")) for study_id, run in parents.items()}
    newest = {name: study_id for study_id, name in names.items()}
    beneath = {
        study_id: run.data.tags[BENEATH_TAG] for study_id, run in parents.items() if BENEATH_TAG in run.data.tags
    }
    if study is None:
        wanted = set(newest.values()) - set(beneath)
    elif study in names or study in newest:
        wanted = {study if study in names else newest[study]}
    else:
        there = ", ".join(f"{name} (id {study_id})" for study_id, name in names.items())
        raise UsageError(f"--study {study} is not in the experiment; it has: {there}")
    for study_id, name in names.items():
        if study_id not in wanted and study in (None, name):
            again = names.get(beneath.get(study_id, ""))
            what = f"an older study {name}" if study_id not in beneath else f"the new seeds of {again or name}"
            notes().print(f"left out: {what}; --study {study_id} exports it", soft_wrap=True)
    # one whose parent run was deleted cannot be told from its namesakes, and is kept
    return [
        run
        for run in runs
        if _trial(run) != STUDY
        and (run.data.tags[STUDY_TAG] in wanted or (study is None and run.data.tags[STUDY_TAG] not in names))
    ]


def _trial(run: Run) -> str:
    return str(run.data.tags[TRIAL_TAG])


def _examples(client: MlflowClient, chosen: Sequence[tuple[Run, Mapping[str, Any]]], /) -> Any:
    """Return the per-example outcomes that the runs have as artifacts; a note says of how many they are missing."""
    with tempfile.TemporaryDirectory(prefix="robust-study-") as scratch:

        def fetch(run: Run) -> str:
            """Return why there are none; empty when there are."""
            folder = Path(scratch) / run.info.run_id
            folder.mkdir()
            try:
                client.download_artifacts(run.info.run_id, f"{EXAMPLE.folder}/{_trial(run)}.parquet", str(folder))
            except Exception as error:  # noqa: BLE001 - each kind of artifact store raises its own
                return short(error)
            return ""

        with ThreadPoolExecutor(DOWNLOADS) as pool:
            said = zip(chosen, pool.map(fetch, [run for run, _ in chosen]), strict=True)
            errors = [error for (_, row), error in said if row["status"] != "failed"]  # one that failed has none
        lacking = [error for error in errors if error]
        if lacking:
            notes().print(
                f"no per-example outcomes of {len(lacking)} of {len(errors)} trials are there or can be fetched: "
                f"{lacking[0]}",
                soft_wrap=True,
            )
        # one file a run: trials of two studies share their ids
        tables = [read_examples(path) for path in sorted(Path(scratch).rglob("*.parquet"))]
        names = list(EXAMPLE.by_name)
        columns = {name: [value for table in tables for value in table[name].to_pylist()] for name in names}
    return to_table(columns, EXAMPLE)


def write_csv(path: Path, table: Any, /) -> None:
    """Write a table as CSV: numbers so that they read back equal, null empty, lists as JSON, inf and nan by name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for row in table.to_pylist():
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value) if isinstance(value, float) else value
