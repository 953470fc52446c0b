"""All figures of a study for a paper, each with its data beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.data.results import Table
from analysis.fronts.growth import hypervolume_growth
from analysis.material import Known
from analysis.plots.figure import COLUMN_WIDTH, PRINTED, PaperFigure, known_formats
from analysis.plots.networks.radii import radii_sheet
from analysis.plots.networks.separation import write_separation
from analysis.plots.studies.importance import importance_sheet, within_sheet
from analysis.plots.studies.progress import checkpoints_sheet, growth_sheet
from analysis.plots.trials.parallel import parallel_sheet
from analysis.plots.trials.pareto import write_pareto
from analysis.plots.trials.scatter import lipschitz_sheet, slice_sheet
from analysis.plots.trials.trial_points import trials_of
from analysis.statistics.hyperparameters import varying_settings
from analysis.statistics.importance import too_few
from analysis.statistics.theorem_radius import reach_of


def paper_sheets(
    table: Table, known: Known | None = None, /, *, width: float = COLUMN_WIDTH, allow_mixed: bool = False
) -> Iterator[PaperFigure]:
    """Yield the figures of a result table, all but the front and the separation, which have writers of their own.

    Lipschitzness, hypervolume, a slice for each setting that varies, parallel coordinates, importance, overall and
    within each method, where it is known, accuracy against the radius, best against last checkpoint.

    Args:
        table: Result rows; no rows, one row or only failed trials give figures that say so.
        known: What else there is.
        width: Inches.
        allow_mixed: Draw rows together though they were measured differently.

    Raises:
        MixedStudiesError: The rows differ in what they measure, and `allow_mixed` is not set.
    """
    known = known or Known()
    trials = trials_of(table, allow_mixed=allow_mixed)
    reach = None if known.distances is None else reach_of(known.distances)
    yield lipschitz_sheet(trials, width=width)
    growth = hypervolume_growth(table, reference=known.reference, devices=known.devices, allow_mixed=allow_mixed)
    yield growth_sheet(growth, table, unit=known.unit, width=width)
    for setting in varying_settings(table):
        yield slice_sheet(trials, setting, reach=reach, width=width)
    yield parallel_sheet(trials, width=width)
    within = within_sheet(known.importance_within, table, width=width)
    few = "" if within else too_few(known.importance_within)
    sample = " · ".join(part for part in (known.importance_sample, few) if part)
    if bars := importance_sheet(known.importance, table, sample=sample, width=width):
        yield bars
    if within:
        yield within
    yield radii_sheet(known.curves, table, reach=reach, width=width)
    yield checkpoints_sheet(trials, width=width)


def write_paper_figures(
    table: Table,
    out_dir: str | Path,
    known: Known | None = None,
    /,
    *,
    formats: Sequence[str] = PRINTED,
    width: float = COLUMN_WIDTH,
    allow_mixed: bool = False,
) -> list[Path]:
    """Write the front, all `paper_sheets`, and the separation where distances are known; return the files.

    Args:
        table: Result rows.
        out_dir: Made if missing.
        known: What else there is.
        formats: Some of png (300 dpi), pdf and svg.
        width: Inches; `analysis.plots.figure.WIDTHS` has presets.
        allow_mixed: Draw rows together though they were measured differently.

    Raises:
        MixedStudiesError: The rows differ in what they measure, and `allow_mixed` is not set.
        ValueError: Unknown format.
    """
    known = known or Known()
    formats = known_formats(formats)
    written = write_pareto(table, out_dir, formats=formats, allow_mixed=allow_mixed, width=width, belief=known.belief)
    for sheet in paper_sheets(table, known, width=width, allow_mixed=allow_mixed):
        written += sheet.write(out_dir, formats=formats)
    radii = sorted(set(table["eval_epsilon"].to_pylist()))
    if known.distances is not None and known.distances.num_rows and radii:
        written += write_separation(known.distances, out_dir, epsilon=radii[-1], formats=formats, width=width)
    return written
