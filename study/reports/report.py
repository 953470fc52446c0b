"""The command `report`: one offline HTML page about a study, or several of like measurement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from study.console import results
from study.directory.layout import REPORT_FILE
from study.reports.material import collect
from study.reports.sources import StudySources, gather


def write_report(
    study_dirs: Sequence[Path], /, *, out: Path | None, allow_mixed: bool = False, skip_damaged: bool = False
) -> None:
    """Write the report and print where it lies; that of one study, in its folder, goes to its run in MLflow too.

    Args:
        study_dirs: The studies' folders, or exported Parquet files.
        out: The file; `report.html` in the study's folder when None, in the working folder for several studies.
        allow_mixed: Put trials on one front though they measured different things.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Results that cannot be read, that are empty, or whose rows measure different things.
    """
    found = gather(study_dirs, skip_damaged=skip_damaged)
    page = _page(found, allow_mixed=allow_mixed)
    file = out or (found.home / REPORT_FILE if len(found.sources) == 1 else Path(REPORT_FILE))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    results().print(str(file))
    if out is None and len(found.sources) == 1:
        from study.tracking.post_run import add_files

        add_files(next(iter(found.sources.values())), [file], "report")


def report_page(study_dir: Path, /) -> str:
    """Return the report of one study, an offline HTML page.

    Raises:
        UsageError: Results that cannot be read, that are empty, or whose rows measure different things.
    """
    return _page(gather([study_dir]))


def _page(found: StudySources, /, *, allow_mixed: bool = False) -> str:
    from analysis.report.page import build_report

    return build_report(collect(found, allow_mixed=allow_mixed))
