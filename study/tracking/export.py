"""The command `export`: result rows and per-example outcomes, from MLflow alone or from a study's folder."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.files import unlinked
from analysis.data.results import read_examples, read_results, to_table, write_table
from analysis.data.schema import EXAMPLE, RESULT, ResultsError
from analysis.tables.text_table import inert
from study.config.file_urls import absolute
from study.config.trust import accept_server
from study.config.values import unreadable
from study.console import notes, results
from study.directory.layout import open_config
from study.errors import UsageError, short, usage_errors
from study.tracking.client import connect, require_artifact_server
from study.tracking.row_mapping import CONFIRMS_TAG, STUDY, STUDY_TAG, TRIAL_TAG, row_from_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DOWNLOADS = 8
"""Artifacts downloaded at a time."""


def export(
    study_dir: Path | None, /, *, uri: str | None, experiment: str | None, out: Path, study: str | None = None
) -> None:
    """Write rows to `out` and per-example outcomes beside it, as `NAME.examples.parquet`.

    Args:
        study_dir: A study's folder; None to read from MLflow.
        uri: Tracking URI.
        experiment: Name of the experiment.
        out: A `.parquet` or `.csv` file.
        study: Name or id of the study to export; when None every study, of each name the newest.

    Raises:
        UsageError: Neither or both sources, another file type, no finished trials, or no such store, experiment or
            study.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out must end in .parquet or .csv, got {out}")
    if (study_dir is None) == (uri is None) or (uri is None) != (experiment is None):
        raise UsageError("export takes either a STUDY_DIR, or --mlflow URI together with --experiment NAME")
    if study is not None and uri is None:
        raise UsageError("--study selects one of the studies in --mlflow; a STUDY_DIR holds only one")
    examples_out = out.with_suffix(".examples.parquet")
    with usage_errors(ResultsError, OSError):
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
            write_table(examples_out, examples)
    results().print(f"{rows.num_rows} rows: {out}")
    if examples.num_rows:
        results().print(f"{examples.num_rows} per-example outcomes: {examples_out}")


def from_mlflow(uri: str, experiment: str, /, *, study: str | None = None) -> tuple[Any, Any]:
    """Return the result rows and the per-example outcomes of an experiment's studies.

    Of studies with the same name only the newest is read, and confirmations (trials trained again with new seeds) are
    skipped, unless `study` selects one. Notes name the studies that are skipped.

    Raises:
        UsageError: The store cannot be read, or has no such experiment or study.
        ResultsError: The rows were written by another version of this project.
    """
    from study.tracking.client import runs_of

    if (problem := unreadable(uri)) is not None:
        raise UsageError(f"--mlflow {problem}")
    accept_server(uri)
    try:
        client = connect(absolute(uri))
        stored = client.get_experiment_by_name(experiment)
        if stored is None:
            names = ", ".join(sorted(each.name for each in client.search_experiments()))
            raise UsageError(f"{uri} has no experiment {experiment!r}; it has: {names}")
        runs = list(runs_of(client, stored.experiment_id, f"tags.`{TRIAL_TAG}` != ''"))
    except UsageError:
        raise
    except Exception as error:  # MLflow has no common class for errors of a store that cannot be reached
        raise UsageError(f"MLflow at {uri} cannot be read: {short(error)}") from error
    trials = _rows(_trial_runs(runs, study))
    columns = dict.fromkeys(column for _, row in trials for column in row)
    rows = to_table({column: [row.get(column) for _, row in trials] for column in columns}, RESULT, where=uri)
    rows = rows.sort_by([(name, "ascending") for name in RESULT.order])
    return rows, _examples(client, trials)


def _rows(runs: Sequence[Run]) -> list[tuple[Run, dict[str, Any]]]:
    """Return the runs that hold a result row, with it; a note names each whose row is damaged.

    Raises:
        ResultsError: No row can be read, as when another version of this project wrote them.
    """
    found, damaged = [], []
    for run in runs:
        try:
            row = row_from_tags(run.data.tags)
            if row is not None:
                to_table({name: [value] for name, value in row.items()}, RESULT, where="its row")
                found.append((run, row))
        except ValueError as error:
            damaged.append(f"trial {_trial(run)}, run {run.info.run_id}: {error}")
    if damaged and not found:
        raise ResultsError(damaged[0])
    for problem in damaged:
        notes().print(f"left out {problem}")
    return found


def _trial_runs(runs: Sequence[Run], study: str | None) -> list[Run]:
    """Return the trials' runs of the studies to export.

    A confirmation is exported only by name: its trials would enter the front of the study it confirms a second time.
    The runs are all those of the experiment, oldest first.
    """
    parents = {run.data.tags[STUDY_TAG]: run for run in runs if _trial(run) == STUDY}
    # a study whose own run was deleted has its name from its trials, and counts as older than those that have theirs
    trials = {run.data.tags[STUDY_TAG]: run for run in runs if "study" in run.data.tags}
    orphans = {study_id: run for study_id, run in trials.items() if study_id not in parents}
    names = {study_id: str(run.data.tags.get("study")) for study_id, run in (orphans | parents).items()}
    newest = {name: study_id for study_id, name in names.items()}
    confirmed = {run.data.tags[STUDY_TAG]: run.data.tags[CONFIRMS_TAG] for run in runs if CONFIRMS_TAG in run.data.tags}
    if study is None:
        selected = set(newest.values()) - set(confirmed)
    elif study in names or study in newest:
        selected = {study if study in names else newest[study]}
    else:
        available = ", ".join(f"{name} (id {study_id})" for study_id, name in names.items())
        raise UsageError(f"--study {study} is not in the experiment; it has: {available}")
    for study_id, name in names.items():
        if study_id not in selected and study in (None, name):
            original = names.get(confirmed.get(study_id, ""), name)
            what = f"the new seeds of {original}" if study_id in confirmed else f"an older study {name}"
            notes().print(f"skipped: {what}; --study {study_id} exports it")
    # one whose runs lost their names is exported with the newest
    return [
        run
        for run in runs
        if _trial(run) != STUDY
        and (run.data.tags[STUDY_TAG] in selected or (study is None and run.data.tags[STUDY_TAG] not in names))
    ]


def _trial(run: Run) -> str:
    return str(run.data.tags[TRIAL_TAG])


def _examples(client: MlflowClient, trials: Sequence[tuple[Run, Mapping[str, Any]]], /) -> Any:
    """Return the per-example outcomes among the runs' artifacts; a note counts the trials without."""
    with tempfile.TemporaryDirectory(prefix="robust-study-") as scratch:

        def fetch(run: Run) -> str:
            """Download a run's outcomes; return the error, or an empty string."""
            folder = Path(scratch) / run.info.run_id
            folder.mkdir()
            try:
                require_artifact_server(client, run.info.artifact_uri)
                client.download_artifacts(run.info.run_id, f"{EXAMPLE.folder}/{_trial(run)}.parquet", str(folder))
            except Exception as error:  # noqa: BLE001 - each kind of artifact store raises its own
                return short(error)
            return ""

        with ThreadPoolExecutor(DOWNLOADS) as pool:
            answers = zip(trials, pool.map(fetch, [run for run, _ in trials]), strict=True)
            errors = [error for (_, row), error in answers if row["status"] != "failed"]  # failed trials have none
        missing = [error for error in errors if error]
        if missing:
            notes().print(f"no per-example outcomes for {len(missing)} of {len(errors)} trials: {missing[0]}")
        # one file for each run: trials of two studies may have the same id
        tables = []
        for run, row in trials:
            for path in (Path(scratch) / run.info.run_id).rglob("*.parquet"):
                try:
                    tables.append(read_examples(path))
                except ResultsError as error:
                    reason = str(error).replace(str(path), "its file").partition(";")[0]
                    notes().print(f"left out the outcomes of trial {row['trial_id']}, run {run.info.run_id}: {reason}")
        names = list(EXAMPLE.by_name)
        columns = {name: [value for table in tables for value in table[name].to_pylist()] for name in names}
    return to_table(columns, EXAMPLE)


def write_csv(path: Path, table: Any, /) -> None:
    """Write a table as CSV: numbers with all digits, null as an empty cell, lists as JSON, text inert, inf and nan."""
    with unlinked(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(inert, table.column_names))
        for row in table.to_pylist():
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return inert(value)
    return repr(value) if isinstance(value, float) else value
