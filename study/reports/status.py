"""The command `status`: a study's progress, read from its files whether or not it is running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from analysis.fronts.front import front_hypervolume, front_of, mixed_line, reference_point
from analysis.fronts.objectives import FRONT
from analysis.heldout.measurements import uses_lines
from analysis.tables.front_table import front_table
from analysis.tables.text_table import TextTable
from study.console import quoted, results
from study.directory.layout import open_config
from study.directory.lock import running_driver
from study.directory.rows import evaluation_rows, read_rows, strong_results
from study.reports.failures import causes, failure_table
from study.search.optuna_study import out_of_time

STATUSES = ("completed", "stopped_early", "failed")


def show_status(study_dir: Path, /, *, as_json: bool) -> None:
    """Print trials by method and status, causes of failure, and the front so far.

    Raises:
        UsageError: The folder holds no study, or its results cannot be read.
    """
    config = open_config(study_dir)
    rows = read_rows([study_dir])
    records = rows.select(["trial_id", "method", "status", "reason", "replicate_of"]).to_pylist()
    by_status = Counter(record["status"] for record in records)
    failures = causes(records, study_dir)
    replicates = sum(record["replicate_of"] is not None for record in records)
    flags = Counter(flag for flags in rows["flags"].to_pylist() for flag in flags)
    driver = running_driver(study_dir)
    uses = evaluation_rows(study_dir)
    if as_json:
        summary: dict[str, Any] = {
            "study": config.name,
            "num_trials": config.num_trials,
            **{status: by_status[status] for status in STATUSES},
            "driver": None if driver is None else asdict(driver),
            "left": max(0, config.num_trials - rows.num_rows),
            "replicates": replicates,
            "methods": dict(Counter(record["method"] for record in records)),
            "failures": [
                {**asdict(cause), "traceback": None if cause.traceback is None else str(cause.traceback)}
                for cause in failures
            ],
            "epochs_saved": _epochs_saved(rows),
            "flags": dict(flags),
            **_front(rows, config.front.reference),
            "test_uses": len(uses),
        }
        results().print_json(data=summary)
        return
    console = results()
    console.print(f"study {config.name}: {rows.num_rows} of {config.num_trials} trials done")
    console.print(_by_method(records))
    if replicates:
        console.print(f"{replicates} repeat the settings of an earlier trial with another seed")
    if failures:
        console.print(failure_table(failures))
    if by_status["stopped_early"]:
        saved = 100 * _epochs_saved(rows)
        console.print(f"{by_status['stopped_early']} stopped early: {saved:.0f}% of the epochs of all trials not run")
    for flag, count in flags.most_common():
        console.print(f"{count} flagged, never on the front: {flag}{_meaning(flag)}")
    if rows.num_rows:
        console.print(mixed_line(rows) or _front_table(study_dir, rows, config.front.reference))
    for line in uses_lines(uses) if uses else ():
        console.print(line)
    if driver is not None:
        console.print(f"run by {driver}; stop it with: robust-study stop {quoted(study_dir)}")
    elif out_of_time(config, study_dir):
        console.print(f"the time budget of {config.search.time_budget} is spent")
    elif rows.num_rows < config.num_trials:
        console.print(f"resume with: robust-study resume {quoted(study_dir)}")


def _front_table(study_dir: Path, rows: Any, reference: Mapping[str, float]) -> TextTable:
    return front_table(rows, reference=reference, strong=strong_results(study_dir, rows))


def _front(rows: Any, reference: Mapping[str, float]) -> dict[str, Any]:
    """Return the front's members and hypervolume; for rows that share no front, why."""
    mixed = mixed_line(rows)
    return {
        "front": [] if mixed else front_of(rows)["trial_id"].to_pylist(),
        "hypervolume": None if mixed else front_hypervolume(rows, reference=reference).value,
        "hypervolume_reference": list(reference_point(FRONT, fixed=reference)),
        "mixed": mixed,
    }


def _meaning(flag: str) -> str:
    from trainables.evaluation.flags import FLAGS
    from trainables.evaluation.trial import TRAINING_FLAGS

    meaning = {**FLAGS, **TRAINING_FLAGS}.get(flag)
    return f" ({meaning})" if meaning else ""


def _by_method(records: list[dict[str, Any]]) -> Table:
    table = Table("method", *STATUSES)
    for method in sorted({record["method"] for record in records}):
        counts = Counter(record["status"] for record in records if record["method"] == method)
        table.add_row(method, *(str(counts[status]) for status in STATUSES))
    return table


def _epochs_saved(rows: Any) -> float:
    """Return the fraction of all planned epochs that trials stopped early did not run."""
    if not rows.num_rows:
        return 0.0
    all_planned, run, statuses = (rows[name].to_pylist() for name in ("param.epochs", "epochs", "status"))
    saved = [
        planned - done
        for planned, done, status in zip(all_planned, run, statuses, strict=True)
        if status == "stopped_early" and planned is not None
    ]
    return float(sum(saved) / max(1, sum(planned for planned in all_planned if planned is not None)))
