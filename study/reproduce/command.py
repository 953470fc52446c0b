"""The command `reproduce`: one table of the paper, at one scale, resumed where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.console import notes, results
from study.errors import UsageError
from study.reproduce.grids import SCALES, TABLES
from trainables.registry import nearest

TITLES = {
    "table1": "Table 1: separation of the data sets",
    "table2": "Table 2: all methods, two networks",
    "table3": "Table 3: natural training and the methods that train on attacks, without dropout",
    "table4": "Table 4: dropout against none",
}
"""What each table holds, whatever the data."""

_OF_THE_PAPER = {
    "table1": "MNIST, CIFAR-10, SVHN and Restricted ImageNet",
    "table2": "MNIST with CNN1 and CNN2",
    "table3": "CIFAR-10 with WRN-40-10 and Restricted ImageNet with ResNet-50",
    "table4": "SVHN and CIFAR-10 with WRN-40-10, dropout 0.5 and 0.2",
}

_SCALED = {
    "smoke": "built-in data and small networks stand in for the paper's",
    "laptop": "10,000 training images of MNIST, networks for a CPU and few epochs stand in for the paper's",
    "paper": "the paper's data, networks and training",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `reproduce` is asked for.

    Args:
        table: One of `TABLES`.
        scale: One of `SCALES`.
        out: Folder in which the table's folder lies.
        data_root: Folder of the data sets.
        address: Ray cluster, as `cluster.address`.
        assignments: `key=value` replacements in the config of every study of the table.
    """

    table: str
    scale: str
    out: Path
    data_root: Path | None = None
    address: str | None = None
    assignments: Sequence[str] = ()

    @property
    def home(self) -> Path:
        """Where the table and its studies lie."""
        return self.out / f"{self.table}-{self.scale}"

    @property
    def title(self) -> str:
        """What stands above the table."""
        return f"{TITLES[self.table]} ({self.scale})"

    @property
    def remark(self) -> str:
        """How the scale differs from the paper's, one line below the table."""
        return (
            f"scale {self.scale}: {_SCALED[self.scale]} ({_OF_THE_PAPER[self.table]}); docs/reproduce.md says what is "
            "the same and what is not"
        )


def reproduce(request: Request, /, *, dry_run: bool) -> None:
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
        from study.reproduce.separations import dry_run as show
        from study.reproduce.separations import run
    else:
        from study.reproduce.studies import dry_run as show
        from study.reproduce.studies import run
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


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of a table.

    Args:
        written: Its files, the Markdown first; empty when nothing could be measured.
        missing: What it lacks and why, a line each.
    """

    written: Sequence[Path]
    missing: Sequence[str]
