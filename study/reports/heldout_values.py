"""The command `pareto --split test`: the members chosen on validation, at their test values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from study.console import notes, quoted, results
from study.directory.rows import heldout_results
from study.errors import UsageError


def show_on_test(study_dirs: Sequence[Path], /, *, formats: Sequence[str], out: Path | None) -> None:
    """Print and draw the chosen members on test and write their table, study by study; the choice stays validation's.

    Args:
        study_dirs: The studies' folders.
        formats: Some of png, pdf, svg, html.
        out: Folder of the figures, with a folder for each of several studies; None for `figures/` of each study.

    Raises:
        UsageError: A study without test measurements, or an exported file.
    """
    from analysis.heldout.measurements import uses_lines
    from analysis.plots.networks.heldout_values import write_on_test
    from analysis.tables.chosen_table import write_chosen_table
    from analysis.tables.heldout_tables import on_test_table

    studies = {study_dir: heldout_results(study_dir) for study_dir in study_dirs}
    for study_dir, heldout in studies.items():
        if heldout is None:
            raise UsageError(
                f"nothing of {study_dir} was measured on test yet: "
                f"run `robust-study evaluate {quoted(study_dir)} --front`"
            )
    for study_dir, heldout in studies.items():
        console = results()
        console.print(on_test_table(heldout))
        for line in uses_lines(heldout.evaluations):
            console.print(line)
        folder = study_dir / "figures" if out is None else out / study_dir.name if len(studies) > 1 else out
        for path in (*write_on_test(heldout, folder, formats=formats), *write_chosen_table(heldout, folder)):
            notes().print(f"wrote {path}")
