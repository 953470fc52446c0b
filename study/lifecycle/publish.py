"""Logs a study's front to its parent run: tags, figures, tables, models and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.data.results import write_table
from analysis.fronts.front import front_of
from analysis.fronts.strong_attacks import read_strong
from study.config.schema import StudyConfig
from study.console import notes, quoted
from study.directory.layout import CONFIG_FILE, REPORT_FILE, TRACKING_FOLDER
from study.errors import short
from study.lifecycle.front_members import publish_members
from study.lifecycle.study_note import study_note
from study.reports.report import report_page
from study.tracking.export import write_csv
from study.tracking.tracker import Tracker
from trainables.checkpoints.files import write_text

FIGURES = "figures"


def publish(
    config: StudyConfig,
    study_dir: Path,
    table: Any,
    /,
    *,
    tracker: Tracker,
    hurried: bool = False,
) -> None:
    """Pass a study's front, all figures in its folder and its report to its tracker.

    A part that cannot be made is skipped with a note.

    Args:
        config: The study's config.
        study_dir: Its folder.
        table: Its result rows.
        tracker: Its open tracker.
        hurried: Skip the parts that take time: the members' own figures and models, and a new report.
    """
    try:
        front = front_of(table)
        tracker.front(front["trial_id"].to_pylist())
        tracker.attacked(read_strong(study_dir, table))
        tracker.artifacts([study_dir / CONFIG_FILE], "config")
        front_files = [study_dir / TRACKING_FOLDER / name for name in ("front.parquet", "front.csv")]
        write_table(front_files[0], front)
        write_csv(front_files[1], front)
        tracker.artifacts(front_files, "front")
        tracker.artifacts(sorted(path for path in (study_dir / FIGURES).glob("*") if path.is_file()), FIGURES)
        if not hurried:
            # before the report, which shows the members' curves
            publish_members(config, study_dir, front, tracker=tracker)
            _write_report(study_dir)
        if (study_dir / REPORT_FILE).exists():
            tracker.artifacts([study_dir / REPORT_FILE], "report")
        tracker.note(study_note(config, table))
    except Exception as error:  # noqa: BLE001 - the results are on disk, so a failure here must not fail the study
        notes().print(f"MLflow gets only part of the figures and tables: {short(error)}")


def _write_report(study_dir: Path) -> None:
    notes().print("writing the report ...")
    try:
        write_text(study_dir / REPORT_FILE, report_page(study_dir))
    except Exception as error:  # noqa: BLE001 - it can be written again, and the results are on disk
        notes().print(
            f"the report could not be written ({short(error)}); write it with: robust-study report {quoted(study_dir)}"
        )
