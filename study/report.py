"""The command `report`: one offline HTML page about a study, or several of like measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from study.belief import belief_of
from study.console import results
from study.errors import UsageError
from study.folder import reference_of
from study.sources import gather

_FILE = "report.html"


def write_report(
    study_dirs: Sequence[Path], /, *, out: Path | None, allow_mixed: bool = False, skip_damaged: bool = False
) -> None:
    """Write the report and print where it lies.

    Args:
        study_dirs: The studies' folders, or exported Parquet files.
        out: The file; `report.html` in the study's folder when None, in the working folder for several studies.
        allow_mixed: Put trials on one front though they measured different things.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Results that cannot be read, that are empty, or whose rows measure different things.
    """
    from analysis.fronts import insisted, mixed_columns, require_like_for_like
    from analysis.report.page import Material, build_report
    from study.curves import front_curves
    from study.importance import importance_of
    from study.reach import distances_of

    found = gather(study_dirs, skip_damaged=skip_damaged)
    table = insisted(found.table) if allow_mixed else found.table
    first = next(iter(found.sources.values()))
    home = first.parent if first.is_file() else first
    try:
        require_like_for_like(table)
        devices, unit = _hours(found.sources.values())
        importance, sample = importance_of(table)
        material = Material(
            title=", ".join(dict.fromkeys(table["study"].to_pylist())),
            table=table,
            config=found.config(),
            belief=None if mixed_columns(table) else belief_of(found.sources, table),
            importance=importance,
            importance_sample=sample,
            reference=reference_of(list(found.sources.values())),
            separation=distances_of(table, home),
            curves=front_curves(table, home),
            devices=devices,
            unit=unit,
            on_test=found.on_test(),
        )
        page = build_report(material)
    except ValueError as error:
        raise UsageError(str(error)) from error
    file = out or (home / _FILE if len(found.sources) == 1 else Path(_FILE))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    results().print(str(file))


def _hours(sources: Iterable[Path], /) -> tuple[float, str]:
    """Return what studies count hours of; worker-hours where they differ."""
    from study.paper_figures import hours_of

    found = {hours_of(source.parent if source.is_file() else source) for source in sources}
    return found.pop() if len(found) == 1 else (1.0, "worker-hours")
