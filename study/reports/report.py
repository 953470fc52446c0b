"""The command `report`: one offline HTML page about a study, or several of like measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from study.console import results
from study.directory.layout import REPORT_FILE
from study.directory.rows import reference_of
from study.errors import UsageError
from study.reports.posterior import belief_of
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
    home = _home(found)
    file = out or (home / REPORT_FILE if len(found.sources) == 1 else Path(REPORT_FILE))
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
    from analysis.fronts.front import mixed_columns, require_like_for_like, with_mixed_allowed
    from analysis.report.page import Material, build_report
    from study.reports.dataset_separation import distances_of
    from study.reports.radius_curves import front_curves
    from study.search.importance import importance_of, importance_within, objectives_shown

    home = _home(found)
    table = with_mixed_allowed(found.table) if allow_mixed else found.table
    try:
        require_like_for_like(table)
        devices, unit = _hours(found.sources.values())
        objectives = objectives_shown(found.sources.values())
        importance, sample = importance_of(table, objectives)
        material = Material(
            title=", ".join(dict.fromkeys(table["study"].to_pylist())),
            table=table,
            config=found.config(),
            belief=None if mixed_columns(table) else belief_of(found.sources, table),
            importance=importance,
            importance_sample=sample,
            importance_within=importance_within(table, objectives),
            reference=reference_of(list(found.sources.values())),
            separation=distances_of(table, home),
            curves=front_curves(table, home),
            devices=devices,
            unit=unit,
            on_test=found.on_test(),
        )
        return build_report(material)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _home(found: StudySources) -> Path:
    first = next(iter(found.sources.values()))
    return first.parent if first.is_file() else first


def _hours(sources: Iterable[Path], /) -> tuple[float, str]:
    """Return what studies count hours of; worker-hours where they differ."""
    from study.reports.figures import hours_of

    found = {hours_of(source.parent if source.is_file() else source) for source in sources}
    return found.pop() if len(found) == 1 else (1.0, "worker-hours")
