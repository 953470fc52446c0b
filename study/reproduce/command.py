"""The command `reproduce`: one table of the paper, at one scale, resumed where it stands."""

from __future__ import annotations

from study.console import notes, results
from study.errors import UsageError
from study.reproduce.grids import SCALES, TABLES
from study.reproduce.request import TableRequest
from trainables.registry import nearest


def reproduce(request: TableRequest, /, *, dry_run: bool) -> None:
    """Run what a table lacks, write it as Markdown, LaTeX, CSV and Parquet, and print the Markdown.

    Args:
        request: Which table, at which scale, where.
        dry_run: Show the studies and estimate time and disk, start nothing.

    Raises:
        UsageError: Unknown table or scale, bad assignments, none of the table's data sets there.
        SystemExit: 1 when something of the table is missing, 130 or 143 when a signal ended it.
    """
    for value, known, name in ((request.table, TABLES, "TABLE"), (request.scale, SCALES, "--scale")):
        if value not in known:
            raise UsageError(f"{name} must be one of {', '.join(known)}, got {value!r}{nearest(value, list(known))}")
    # imported here: a wrong name is answered without loading anything
    if request.table == "table1":
        from study.reproduce.separation_table import dry_run as show
        from study.reproduce.separation_table import run
    else:
        from study.reproduce.accuracy_tables import dry_run as show
        from study.reproduce.accuracy_tables import run
    if dry_run:
        show(request)
        return
    request.home.mkdir(parents=True, exist_ok=True)
    made = run(request)
    for path in made.written:
        notes().print(f"wrote {path}")
    if made.written:
        results().print(made.written[0].read_text(encoding="utf-8"), end="")
    for line in made.missing:
        notes().print(f"missing: {line}")
    if made.missing:
        notes().print("the table is not complete: run the same command again once they are there")
        raise SystemExit(1)
