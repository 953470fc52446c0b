"""The end of a study: the figures drawn and logged, the front printed, the next commands named."""

from __future__ import annotations

from pathlib import Path

from study.budget import out_of_time
from study.config import StudyConfig
from study.console import notes, results
from study.figures import print_front, write_figures
from study.folder import read_rows
from study.tracking.publish import publish
from study.tracking.tracker import FLUSH_SECONDS, Tracker


def finish(config: StudyConfig, study_dir: Path, /, *, tracker: Tracker) -> bool:
    """Draw what the study found, log it to the parent run and close it.

    Args:
        config: The study's config.
        study_dir: Its folder.
        tracker: The study's open tracker.

    Returns:
        Whether the study has all its trials, or no time left for more, and at least one that did not fail.
    """
    said, shown = notes(), results()
    table = read_rows([study_dir])
    complete = table.num_rows >= config.num_trials or out_of_time(config, study_dir)
    written: list[Path] = []
    if table.num_rows:
        written = write_figures(table, study_dir / "figures")
        publish(config, study_dir, table, tracker=tracker, figures=written)
    reason = None if complete else "the study was stopped before all trials were done"
    problem = tracker.close("FINISHED" if complete else "KILLED", reason=reason, timeout=FLUSH_SECONDS + table.num_rows)
    if table.num_rows:
        print_front(table, console=shown)
    if written:
        shown.print(
            f"\nfigures: {study_dir / 'figures'}/pareto.{{png,pdf,svg,html,csv}}", soft_wrap=True, highlight=False
        )
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
    shown.print("next:")
    shown.print(f"  robust-study ui {study_dir}")
    shown.print(f"  robust-study status {study_dir}")
    return "completed" in table["status"].to_pylist()
