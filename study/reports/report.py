"""The command `report`: one offline HTML page about a study, or several of the same measurement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from study.console import results
from study.directory.layout import REPORT_FILE
from study.reports.material import collect
from study.reports.sources import gather
from trainables.checkpoints.files import write_text


def write_report(
    study_dirs: Sequence[Path], /, *, out: Path | None, allow_mixed: bool = False, skip_damaged: bool = False
) -> None:
    """Write the report and print its path; one in its study's folder is also added to the study's run in MLflow.

    Args:
        study_dirs: The studies' folders, or exported Parquet files.
        out: The file; None for `report.html` in the study's folder, or in the working folder for several studies.
        allow_mixed: Put rows of different measurements on one front.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Results that are unreadable, empty or of different measurements.
    """
    studies = gather(study_dirs, skip_damaged=skip_damaged)
    from analysis.report.page import build_report

    page = build_report(collect(studies, allow_mixed=allow_mixed))
    file = out or (studies.home / REPORT_FILE if len(studies.sources) == 1 else Path(REPORT_FILE))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
    results().print(str(file))
    if out is None and len(studies.sources) == 1:
        from study.tracking.post_run import add_files

        add_files(next(iter(studies.sources.values())), [file], "report")


def report_page(study_dir: Path, /) -> str:
    """Return the report of one study, an offline HTML page.

    Raises:
        UsageError: Results that are unreadable, empty or of different measurements.
    """
    from analysis.report.page import build_report

    return build_report(collect(gather([study_dir])))
