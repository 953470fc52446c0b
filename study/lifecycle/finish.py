"""The end of a study: the figures drawn and logged, the front printed, the next commands named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.config.schema import StudyConfig
from study.console import notes, results
from study.directory.layout import FILE as REPORT
from study.directory.rows import read_rows
from study.lifecycle.publish import publish
from study.reports.failures import causes, failure_table
from study.reports.pareto import print_front, write_figures
from study.search.optuna_study import out_of_time
from study.tracking.tracker import FLUSH_SECONDS, Tracker

HURRIED_SECONDS = 10.0
"""Longest wait for uploads when whoever asked for the stop is about to end the process."""


def finish(config: StudyConfig, study_dir: Path, /, *, tracker: Tracker, hurried: bool = False) -> bool:
    """Draw what the study found, log it to the parent run and close it.

    Args:
        config: The study's config.
        study_dir: Its folder.
        tracker: The study's open tracker.
        hurried: Wait for uploads for a few seconds only.

    Returns:
        Whether the study has all its trials, or no time left for more, and at least one that did not fail.
    """
    said, shown = notes(), results()
    table = read_rows([study_dir])
    complete = table.num_rows >= config.num_trials or out_of_time(config, study_dir)
    written: list[Path] = []
    if table.num_rows:
        written = _drawn(table, study_dir / "figures")
        publish(config, study_dir, table, tracker=tracker, hurried=hurried)
    status, reason = ("FINISHED", None) if complete else ("KILLED", "the study was stopped before all trials were done")
    patience = HURRIED_SECONDS if hurried else FLUSH_SECONDS + table.num_rows
    problem = tracker.close(status, reason=reason, timeout=patience)
    if table.num_rows:
        print_front(table, console=shown)
    if written:
        shown.print(
            f"\nfigures: {study_dir / 'figures'}/pareto.{{png,pdf,svg,html,csv}}", soft_wrap=True, highlight=False
        )
    if (study_dir / REPORT).exists():
        shown.print(f"report: {study_dir / REPORT}", soft_wrap=True, highlight=False)
    found = causes(table.select(["trial_id", "status", "reason"]).to_pylist(), study_dir)
    if found:
        shown.print(failure_table(found))
    if problem:
        said.print(
            f"tracking lacks: {problem}. Every result is in {study_dir}; upload them with: "
            f"robust-study sync {study_dir}",
            soft_wrap=True,
        )
    else:
        said.print("tracking verified")
    if not complete:
        said.print(
            f"{table.num_rows} of {config.num_trials} trials are done; go on with: robust-study resume {study_dir}",
        )
        return False
    if problem is None:  # uploads of a trial are made from its own files
        _compacted(study_dir)
    shown.print("next:")
    shown.print(f"  robust-study ui {study_dir}")
    shown.print(f"  robust-study status {study_dir}")
    return "completed" in table["status"].to_pylist()


def _drawn(table: Any, folder: Path) -> list[Path]:
    try:
        return write_figures(table, folder)
    except Exception as error:  # noqa: BLE001 - figures can be drawn again, and the rows are what matters
        notes().print(f"the figures could not be drawn ({type(error).__name__}: {error}); later: robust-study pareto")
        return []


def _compacted(study_dir: Path) -> None:
    from analysis.data.compaction import compact
    from analysis.data.schema import ResultsError

    try:
        compact(study_dir)
    except (OSError, ResultsError) as error:
        notes().print(f"the result files stay one a trial: {error}")
