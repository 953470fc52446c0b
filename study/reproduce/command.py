"""The command `reproduce`: one table of the paper, or its proof of concept, at one scale; run again, it resumes."""

from __future__ import annotations

from analysis.data.proof_results import TABLE as PROOF_OF_CONCEPT
from study.console import notes, results
from study.errors import UsageError
from study.reproduce.grids import SCALES, TABLES
from study.reproduce.request import TableRequest
from trainables.registry import nearest


def reproduce(request: TableRequest, /, *, dry_run: bool) -> None:
    """Run what is missing of a table, write it as Markdown, LaTeX, CSV and Parquet, and print the Markdown.

    Args:
        request: The table, its scale and its folder.
        dry_run: Only show the studies and estimate time and disk.

    Raises:
        UsageError: Unknown table or scale, invalid assignments, or none of the table's data sets available.
        SystemExit: 1 if part of the table is missing, 130 or 143 after a signal.
    """
    for value, names, option in (
        (request.table, (*TABLES, PROOF_OF_CONCEPT), "TABLE"),
        (request.scale, SCALES, "--scale"),
    ):
        if value not in names:
            raise UsageError(f"{option} must be one of {', '.join(names)}, got {value!r}{nearest(value, list(names))}")
    # imported here, so that a wrong name is refused without loading anything
    if request.table == PROOF_OF_CONCEPT:
        from study.reproduce.proof_of_concept import dry_run as show
        from study.reproduce.proof_of_concept import run
    elif request.table == "table1":
        from study.reproduce.separation_table import dry_run as show
        from study.reproduce.separation_table import run
    else:
        from study.reproduce.accuracy_tables import dry_run as show
        from study.reproduce.accuracy_tables import run
    if dry_run:
        show(request)
        return
    request.home.mkdir(parents=True, exist_ok=True)
    written, missing = run(request)
    for path in written:
        notes().print(f"wrote {path}")
    results().print(written[0].read_text(encoding="utf-8"), end="")
    for line in missing:
        notes().print(f"missing: {line}")
    if missing:
        notes().print("the table is not complete: run the command again once what is missing can be run")
        raise SystemExit(1)
