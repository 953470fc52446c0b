"""What the parent run gets when a study ends, and on demand: the front's tags, figures, tables and models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.fronts import front_of
from analysis.results import write_table
from study.config import StudyConfig
from study.console import notes
from study.folder import CONFIG_FILE
from study.tracking.client import short
from study.tracking.front import publish_members
from study.tracking.rows_file import write_csv
from study.tracking.spool import FOLDER
from study.tracking.tracker import Tracker

REPORT = "report.html"


def publish(
    config: StudyConfig,
    study_dir: Path,
    table: Any,
    /,
    *,
    tracker: Tracker,
    figures: list[Path],
    hurried: bool = False,
) -> None:
    """Hand a study's front, figures and report to its tracker; what cannot be made is left out with a note.

    Args:
        config: The study's config.
        study_dir: Its folder.
        table: Its result rows.
        tracker: Open.
        figures: Files drawn of the front.
        hurried: Leave out what takes time: the members' own figures and models.
    """
    try:
        front = front_of(table)
        tracker.front(front["trial_id"].to_pylist())
        tracker.artifacts([study_dir / CONFIG_FILE], "config")
        tracker.artifacts(figures, "figures")
        tracker.artifacts(_front_files(front, study_dir / FOLDER), "front")
        if (study_dir / REPORT).exists():
            tracker.artifacts([study_dir / REPORT], "report")
        if not hurried:
            publish_members(config, study_dir, front, tracker=tracker)
    except Exception as error:  # noqa: BLE001 - the results are on disk; what shows them must not fail the study
        notes().print(f"tracking shows less than it could: {short(error)}")


def _front_files(front: Any, folder: Path) -> list[Path]:
    """Write the front's rows as Parquet and CSV."""
    paths = [folder / "front.parquet", folder / "front.csv"]
    write_table(paths[0], front)
    write_csv(paths[1], front)
    return paths
