"""The command `figures`: every figure of a study for a paper, each with its data beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study.console import notes, results
from study.directory.layout import CONFIG_FILE, open_config
from study.directory.rows import reference_of
from study.errors import UsageError
from study.reports.sources import StudySources, gather

FORMATS = ("pdf", "png", "svg")


def draw_all(
    study_dir: Path, /, *, formats: Sequence[str], width: str, out: Path | None, skip_damaged: bool = False
) -> None:
    """Draw what a study shows and print where the files lie; those in its folder go to its run in MLflow too.

    Args:
        study_dir: The study's folder, or an exported Parquet file.
        formats: Some of pdf, png, svg.
        width: A key of `analysis.plots.figure.WIDTHS`.
        out: Where the figures go; `figures/` of the study when None.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Unknown format, results that cannot be read, that are empty, or whose rows measure different things.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"--format takes some of {', '.join(FORMATS)}, got {unknown[0]!r}")
    found = gather([study_dir], skip_damaged=skip_damaged)
    from analysis.plots.figure import WIDTHS
    from analysis.plots.studies.study_figures import write_paper_figures

    home = study_dir.parent if study_dir.is_file() else study_dir
    folder = out or home / "figures"
    try:
        known = _known(found, home)
        written = write_paper_figures(found.table, folder, known, formats=formats, width=WIDTHS[width])
    except ValueError as error:
        raise UsageError(str(error)) from error
    for path in written:
        notes().print(f"wrote {path}")
    results().print(str(folder), soft_wrap=True, highlight=False)
    if out is None:
        from study.tracking.post_run import add_files

        add_files(study_dir, written, "figures")


def _known(found: StudySources, home: Path) -> Any:
    """Return what the figures show that rows do not say, and note what is missing and how to get it."""
    from analysis.fronts.front import require_like_for_like
    from analysis.material import Known
    from analysis.statistics.importance import LEAST
    from study.reports.dataset_separation import command_for, distances_of
    from study.reports.posterior import belief_of
    from study.reports.radius_curves import front_curves
    from study.search.importance import importance_of, importance_within, objectives_shown

    table = found.table
    require_like_for_like(table)
    curves = front_curves(table, home)
    if any(not curve.measured for curve in curves):
        notes().print(
            f"accuracy against epsilon has two radii only for some members; robust-study resume {home} measures more "
            "(`tracking.models` of them, whose checkpoints are kept)",
            soft_wrap=True,
        )
    objectives = objectives_shown([home])
    importance, sample = importance_of(table, objectives)
    if not importance:
        notes().print(f"no importance figure: fewer than {LEAST} sound trials, or nothing varies")
    distances = distances_of(table, home)
    if distances is None:
        notes().print(
            f"the data set's separation is not measured, so no figure shows how far the theorem reaches; measure it "
            f"with: {command_for(table, home)}",
            soft_wrap=True,
        )
    devices, unit = hours_of(home)
    return Known(
        curves=curves, importance=importance, importance_sample=sample,
        importance_within=importance_within(table, objectives),
        belief=belief_of(found.sources, table), distances=distances, reference=reference_of([home]), devices=devices,
        unit=unit,
    )  # fmt: skip


def hours_of(home: Path, /) -> tuple[float, str]:
    """Return what a trial of a study holds while it runs, and what its hours are called then."""
    if not (home / CONFIG_FILE).is_file():
        return 1.0, "worker-hours"
    gpus = open_config(home).resources.gpus
    # `auto` was settled on the machine that ran it, and is not recorded
    return (gpus, "GPU-hours") if gpus != "auto" and gpus > 0 else (1.0, "worker-hours")
