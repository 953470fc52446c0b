"""The command `report`: one offline HTML page about a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.console import notes, results
from study.errors import UsageError
from study.folder import CONFIG_FILE, read_rows, reference_of
from study.shown_on_test import known_on_test

_DRAWS = 500
_SEED = 0


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
            belief=_belief(home, table),
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


def _belief(home: Path, table: Any) -> Any:
    """Return what the per-example outcomes of sound trials near the front say, None where there are none."""
    import numpy as np

    from analysis.beliefs import CANDIDATES, front_belief, outermost
    from analysis.fronts import feasible
    from analysis.objectives import FRONT, values
    from analysis.results import read_examples
    from analysis.schema import EXAMPLE, ResultsError
    from analysis.uncertainty import outcomes

    if not (home / EXAMPLE.folder).is_dir():
        return None
    measured = np.where(feasible(table)[:, None], values(table, FRONT), np.nan)
    ids = table["trial_id"].to_pylist()
    wanted = {ids[index] for index in outermost(measured, most=CANDIDATES)}
    try:
        found = outcomes(read_examples(home, trials=wanted), split="val")
    except ResultsError as error:
        notes().print(f"no probabilities for the front: {error}")
        return None
    if len(found.trials) < 2 or not len(found.index):
        return None
    return front_belief(found, generator=np.random.default_rng(_SEED), draws=_DRAWS)
