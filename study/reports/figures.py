"""The command `figures`: every figure of a study for a paper, each with its data beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.console import notes, quoted, results
from study.directory.layout import is_study
from study.errors import UsageError
from study.evaluation.study_separation import note_missing
from study.reports.dataset_separation import command_for
from study.reports.figure_data import with_figure_data
from study.reports.material import collect
from study.reports.sources import gather

if TYPE_CHECKING:
    from analysis.material import StudyMaterial

FORMATS = ("pdf", "png", "svg")


def draw_all(
    study_dir: Path, /, *, formats: Sequence[str], width: str, out: Path | None, skip_damaged: bool = False
) -> None:
    """Draw a study's figures and print their folder; figures in the study's folder are also added to its run in MLflow.

    Args:
        study_dir: The study's folder, or an exported Parquet file.
        formats: Some of pdf, png, svg.
        width: A key of `analysis.plots.figure.WIDTHS`.
        out: Folder of the figures; None for `figures/` of the study.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Unknown format, or results that are unreadable, empty or of different measurements.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"--format takes some of {', '.join(FORMATS)}, got {unknown[0]!r}")
    study = gather([study_dir], skip_damaged=skip_damaged)
    from analysis.plots.figure import WIDTHS
    from analysis.plots.studies.contours import LEAST
    from analysis.plots.studies.study_figures import write_paper_figures

    material = with_figure_data(collect(study), study)
    _note_missing(material, study.home)
    folder = out or study.home / "figures"
    written = write_paper_figures(material, folder, formats=formats, width=WIDTHS[width])
    if not any(path.stem == "contours" for path in written):
        notes().print(
            f"no contours: they need {LEAST} trials, of one method or of all, that were proposed independently of "
            "results and share two settings that vary"
        )
    for path in written:
        notes().print(f"wrote {path}")
    results().print(str(folder))
    if out is None:
        from study.tracking.post_run import add_files

        add_files(study_dir, written, "figures")


def _note_missing(material: StudyMaterial, home: Path) -> None:
    from analysis.statistics.importance import LEAST

    if is_study(home) and any(not curve.measured for curve in material.curves):
        notes().print(
            f"accuracy against epsilon has only two radii for some members; robust-study resume {quoted(home)} "
            "measures more (for `tracking.models` members whose checkpoints are kept)"
        )
    if not material.importance:
        notes().print(f"no importance figure: fewer than {LEAST} sound trials, or nothing varies")
    if material.classifier is None:
        note_missing(home, material.table)
    if material.separation is None:
        notes().print(
            "the data set's separation is not measured, so no figure shows the theorem's radius; measure it with: "
            f"{command_for(material.table, home)}"
        )
