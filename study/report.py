"""The command `report`: one offline HTML page about a study."""

from __future__ import annotations

from pathlib import Path

from study.belief import belief_of
from study.console import results
from study.errors import UsageError
from study.folder import CONFIG_FILE, read_rows, reference_of
from study.shown_on_test import known_on_test


def write_report(study_dir: Path, /, *, out: Path | None, skip_damaged: bool = False) -> None:
    """Write the report and print where it lies.

    Args:
        study_dir: The study's folder, or an exported Parquet file.
        out: The file; `report.html` in the study's folder when None.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Results that cannot be read, that are empty, or whose rows measure different things.
    """
    from analysis.report.page import Material, build_report
    from study.curves import front_curves
    from study.importance import importance_of
    from study.paper_figures import hours_of
    from study.reach import distances_of

    table = read_rows([study_dir], skip_damaged=skip_damaged)
    if not table.num_rows:
        raise UsageError(f"{study_dir} has no results yet: run `robust-study resume {study_dir}`")
    home = study_dir.parent if study_dir.is_file() else study_dir
    config = home / CONFIG_FILE
    try:
        devices, unit = hours_of(home)
        material = Material(
            title=", ".join(dict.fromkeys(table["study"].to_pylist())),
            table=table,
            config=config.read_text(encoding="utf-8") if config.is_file() else "",
            belief=belief_of({home.name: home}, table),
            importance=importance_of(table),
            reference=reference_of([home]),
            separation=distances_of(table, home),
            curves=front_curves(table, home),
            devices=devices,
            unit=unit,
            on_test=known_on_test(study_dir, table=table) if study_dir.is_dir() else None,
        )
        page = build_report(material)
    except ValueError as error:
        raise UsageError(str(error)) from error
    file = out or home / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    results().print(str(file))
