"""All figures of a study for a paper, each with its data beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.data.results import Table
from analysis.fronts.growth import hypervolume_growth
from analysis.material import StudyMaterial
from analysis.plots.figure import COLUMN_WIDTH, PRINTED, PaperFigure, check_formats
from analysis.plots.networks.bracket import bracket_sheet
from analysis.plots.networks.distance_curves import distances_sheet
from analysis.plots.networks.lipschitz_by_image import smoothness_sheet
from analysis.plots.networks.radii import radii_sheet
from analysis.plots.networks.separation import write_separation
from analysis.plots.networks.strong import strong_sheet
from analysis.plots.studies.contours import contours_sheet
from analysis.plots.studies.dose_response import dose_response_sheet
from analysis.plots.studies.fixed_methods import fixed_methods_sheet
from analysis.plots.studies.importance import importance_sheet, within_sheet
from analysis.plots.studies.learning import learning_sheet
from analysis.plots.studies.progress import checkpoints_sheet, growth_sheet
from analysis.plots.trials.parallel import parallel_sheet
from analysis.plots.trials.pareto import write_pareto
from analysis.plots.trials.robust_lipschitz import robust_lipschitz_sheet
from analysis.plots.trials.scatter import lipschitz_sheet, slice_sheet
from analysis.plots.trials.trial_points import trials_of
from analysis.plots.trials.two_fronts import new_methods_sheet
from analysis.statistics.hyperparameters import varying_settings
from analysis.statistics.importance import too_few
from analysis.statistics.intervention import experiment_of
from analysis.tables.intervention_tables import write_intervention


def paper_sheets(study: StudyMaterial | Table, /, *, width: float = COLUMN_WIDTH) -> Iterator[PaperFigure]:
    """Yield the figures of a study, all but the front and the separation, which have writers of their own.

    Lipschitzness, each method's front in robust accuracy and Lipschitzness, hypervolume, a slice for each setting that
    varies, parallel coordinates, importance, overall and within each method, where it is known, accuracy against the
    radius, best against last checkpoint. Where there are data: the response to a grid's doses, the front with and
    without other methods than the paper's, accuracies over the epochs, fixed methods, strong attacks, the certified
    bracket, Lipschitzness by image, distances to adversarial examples, contours.

    Args:
        study: What is known of it, or its result rows alone; no rows, one row or only failed trials give figures that
            say so.
        width: Inches.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    material = _material(study)
    table, reach = material.table, material.reach()
    trials = trials_of(table)
    yield lipschitz_sheet(trials, width=width)
    yield robust_lipschitz_sheet(trials, width=width)
    growth = hypervolume_growth(table, reference=material.reference, devices=material.devices)
    yield growth_sheet(growth, table, unit=material.unit, width=width)
    for setting in varying_settings(table):
        yield slice_sheet(trials, setting, reach=reach, width=width)
    yield parallel_sheet(trials, width=width)
    within = within_sheet(material.importance_within, table, width=width)
    few = "" if within else too_few(material.importance_within)
    sample = " · ".join(part for part in (material.importance_sample, few) if part)
    if bars := importance_sheet(material.importance, table, near_front=material.near_front, sample=sample, width=width):
        yield bars
    if within:
        yield within
    yield radii_sheet(material.curves, table, reach=reach, classifier=material.classifier, width=width)
    yield checkpoints_sheet(trials, width=width)
    yield from filter(None, _sheets_of_parts(material, width))


def _sheets_of_parts(material: StudyMaterial, width: float) -> Iterator[PaperFigure | None]:
    """Yield the figures that only some studies have the data for; None for one without."""
    table, strong = material.table, material.strong
    if (experiment := experiment_of(table)) is not None:
        yield dose_response_sheet(experiment, width=width)
    yield new_methods_sheet(table, width=width)
    yield learning_sheet(material.epochs, table, width=width)
    yield fixed_methods_sheet(table, width=width)
    yield strong_sheet(strong, table, on_test=material.on_test, width=width)
    yield bracket_sheet(table, strong=strong, width=width)
    yield smoothness_sheet(material.smoothness, table, width=width)
    if material.distances:
        reach, classifier = material.reach(), material.classifier
        yield distances_sheet(material.distances, table, reach=reach, classifier=classifier, width=width)
    yield contours_sheet(material.importance, table, within=material.importance_within, width=width)


def write_paper_figures(
    study: StudyMaterial | Table,
    out_dir: str | Path,
    /,
    *,
    formats: Sequence[str] = PRINTED,
    width: float = COLUMN_WIDTH,
) -> list[Path]:
    """Write the front, all `paper_sheets`, the tables of an intervention, and the separation where it is known.

    Args:
        study: What is known of it, or its result rows alone.
        out_dir: Made if missing.
        formats: Some of png (300 dpi), pdf and svg.
        width: Inches; `analysis.plots.figure.WIDTHS` has presets.

    Returns:
        The files written.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
        ValueError: Unknown format.
    """
    material = _material(study)
    table = material.table
    check_formats(formats)
    known: dict[str, Any] = {"belief": material.belief, "strong": material.strong, "classifier": material.classifier}
    written = write_pareto(table, out_dir, formats=formats, width=width, **known)
    for sheet in paper_sheets(material, width=width):
        written += sheet.write(out_dir, formats=formats)
    if (experiment := experiment_of(table)) is not None:
        written += write_intervention(experiment, out_dir)
    radii = sorted(set(table["eval_epsilon"].to_pylist()))
    if material.separation is not None and material.separation.num_rows and radii:
        written += write_separation(material.separation, out_dir, epsilon=radii[-1], formats=formats, width=width)
    return written


def _material(study: StudyMaterial | Table) -> StudyMaterial:
    return study if isinstance(study, StudyMaterial) else StudyMaterial(table=study)
