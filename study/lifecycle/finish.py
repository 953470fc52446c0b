"""The end of a study: draws and logs the figures, prints the front and what was found, and names the next commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.fronts.front import mixed_line
from analysis.tables.finding_lines import finding_lines
from analysis.tables.front_table import front_table
from study.config.schema import StudyConfig
from study.console import notes, quoted, results
from study.directory.layout import REPORT_FILE
from study.directory.rows import read_rows
from study.evaluation.strong_attacks import attack_members
from study.evaluation.study_separation import known_classifier, measure_at_end
from study.lifecycle.publish import publish
from study.reports.failures import causes, failure_table
from study.search.optuna_study import out_of_time
from study.tracking.tracker import FLUSH_SECONDS, Tracker

HURRIED_SECONDS = 10.0
"""Longest wait for uploads after a stop signal, whose sender may end the process soon."""


def finish(config: StudyConfig, study_dir: Path, /, *, tracker: Tracker, stopped: Callable[[], bool] = bool) -> bool:
    """Attack a complete study's front, draw its figures with the theorem's classifier, log them and close its run.

    Args:
        config: The study's config.
        study_dir: Its folder.
        tracker: Its open tracker.
        stopped: Whether the study was told to stop; then uploads are waited for for a few seconds only.

    Returns:
        Whether all trials are done, or the time budget is used up, and at least one trial completed.
    """
    remarks, console = notes(), results()
    hurried = stopped()
    table = read_rows([study_dir])
    strong: Mapping[str, Any] = {}
    complete = table.num_rows >= config.num_trials or out_of_time(config, study_dir)
    written: list[Path] = []
    if table.num_rows:
        if complete and not hurried:
            strong = attack_members(config, study_dir, table, ended=stopped)
            measure_at_end(config, study_dir, table, ended=stopped)
        written = _draw(table, study_dir, strong=strong)
        publish(config, study_dir, table, tracker=tracker, hurried=hurried)
    status, reason = ("FINISHED", None) if complete else ("KILLED", "stopped before all trials were done")
    timeout = HURRIED_SECONDS if hurried else FLUSH_SECONDS + table.num_rows
    problem = tracker.close(status, reason=reason, timeout=timeout)
    if table.num_rows:
        console.print(mixed_line(table) or front_table(table, strong=strong))
    failures = causes(table.select(["trial_id", "status", "reason"]).to_pylist(), study_dir)
    if failures:
        console.print(failure_table(failures))
    if problem:
        remarks.print(
            f"MLflow is missing: {problem}. All results are in {study_dir}; upload them with: "
            f"robust-study sync {quoted(study_dir)}"
        )
    else:
        remarks.print("tracking verified")
    if complete and problem is None:  # uploads read each trial's own files
        _compact(study_dir)
    _print_end(config, study_dir, table, drawn=bool(written), complete=complete)
    return complete and "completed" in table["status"].to_pylist()


def _print_end(config: StudyConfig, study_dir: Path, table: Any, *, drawn: bool, complete: bool) -> None:
    """Print the last lines of every `launch` and `resume`: what was found, in which files, and what to type next."""
    console, folder = results(), quoted(study_dir)
    console.print("\n".join(["", *_found(table)]))
    if drawn:
        console.print(f"figures: {study_dir / 'figures'}/pareto.{{png,pdf,svg,html,csv}}")
    if (study_dir / REPORT_FILE).exists():
        console.print(f"report:  {study_dir / REPORT_FILE}")
    if not complete:
        done = f"{table.num_rows} of {config.num_trials} trials are done"
        notes().print(f"{done}; resume with: robust-study resume {folder}")
        return
    more, purpose = f"--add-trials {config.num_trials}", "twice as many trials"
    if config.search.sampler == "grid":
        more, purpose = f"--set search.seeds={config.search.seeds + 1}", "another seed of each point of the grid"
    commands = {
        f"robust-study ui {folder}": "all trials in MLflow, as a table and as charts",
        f"robust-study confirm {folder} --seeds 3": "the front's settings under new seeds, on test",
        f"robust-study resume {folder} {more}": purpose,
    }
    width = max(map(len, commands))
    console.print("next:")
    for command, purpose in commands.items():
        console.print(f"  {command:<{width}}  # {purpose}")


def _found(table: Any) -> list[str]:
    """Return what a study found, in words; nothing for one without rows, or with rows that share no front."""
    return [] if not table.num_rows or mixed_line(table) else finding_lines(table)


def _draw(table: Any, study_dir: Path, *, strong: Mapping[str, Any]) -> list[Path]:
    try:
        from analysis.plots.trials.pareto import write_pareto

        classifier = known_classifier(study_dir, table)
        return write_pareto(table, study_dir / "figures", strong=strong, classifier=classifier)
    except Exception as error:  # noqa: BLE001 - figures can be drawn again, and the results are on disk
        notes().print(
            f"the figures could not be drawn ({type(error).__name__}: {error}); draw them with: robust-study pareto"
        )
        return []


def _compact(study_dir: Path) -> None:
    from analysis.data.compaction import compact
    from analysis.data.schema import ResultsError

    try:
        compact(study_dir)
    except (OSError, ResultsError) as error:
        notes().print(f"the result files could not be merged into one: {error}")
