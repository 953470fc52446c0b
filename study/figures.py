"""The command `pareto`: figures and tables of the front, from one or several studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study.console import notes, results
from study.errors import UsageError
from study.folder import read_rows, reference_of

FORMATS = ("png", "pdf", "svg", "html")


def draw(
    study_dirs: Sequence[Path],
    /,
    *,
    split: str,
    objectives: Sequence[str],
    allow_mixed: bool,
    formats: Sequence[str],
    out: Path | None,
    skip_damaged: bool = False,
) -> None:
    """Draw the front of one or several studies, print it, and write the table per method and dropout beside it.

    Args:
        study_dirs: The studies' folders, or exported Parquet files.
        split: `val`, or `test` for chosen members at their test values; nothing else of this is heeded then but
            where and in which formats.
        objectives: Names of the objectives.
        allow_mixed: Whether rows that measured different things may share a front.
        formats: Some of png, pdf, svg, html.
        out: Where the figures go; `figures/` of the first study when None.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Unknown objective or format, studies that share no front, results that cannot be read.
    """
    from analysis.paper_table import write_paper_table

    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"--format takes some of {', '.join(FORMATS)}, got {unknown[0]!r}")
    if repeated := [name for place, name in enumerate(objectives) if name in objectives[:place]]:
        raise UsageError(f"--objectives names {repeated[0]} twice: name each once")
    if split == "test":
        from study.shown_on_test import show_on_test

        show_on_test(study_dirs, formats=formats, out=out)
        return
    table = read_rows(study_dirs, skip_damaged=skip_damaged)
    if not table.num_rows:
        raise UsageError(f"{study_dirs[0]} has no results yet: run `robust-study resume {study_dirs[0]}`")
    home = study_dirs[0].parent if study_dirs[0].is_file() else study_dirs[0]
    folder = out or home / "figures"
    reference = reference_of(study_dirs)
    try:
        drawn = formats if len(objectives) > 1 else ()
        written = write_figures(table, folder, formats=drawn, objectives=objectives, allow_mixed=allow_mixed)
        written += write_paper_table(table, folder, allow_mixed=allow_mixed)
        print_front(table, console=results(), objectives=objectives, reference=reference, allow_mixed=allow_mixed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if len(objectives) == 1:
        notes().print("one objective spans no plane: a table and data, no figure")
    for path in written:
        notes().print(f"wrote {path}")


def write_figures(table: Any, folder: Path, /, **options: Any) -> list[Path]:
    """Write the front's figures and data to a folder; see `analysis.plots.pareto.write_pareto`."""
    from analysis.plots.pareto import write_pareto

    return write_pareto(table, folder, **options)


def print_front(table: Any, /, *, console: Any, **options: Any) -> None:
    """Print the front as a table, its hypervolume and the reference point."""
    from analysis.tables import front_table

    console.print(front_table(table, **options))
