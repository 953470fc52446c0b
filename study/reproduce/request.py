"""The request that `reproduce` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.data.proof_results import TABLE

TITLES = {
    "table1": "Table 1: separation of the data sets",
    "table2": "Table 2: all methods, two networks",
    "table3": "Table 3: natural training and the methods that train on attacks, without dropout",
    "table4": "Table 4: dropout against none",
    TABLE: "Proof of concept, TRAINED ON TEST: networks trained on train and test together",
}
"""The title of each table, independent of the scale's data."""

_OF_THE_PAPER = {
    "table1": "MNIST, CIFAR-10, SVHN and Restricted ImageNet",
    "table2": "MNIST with CNN1 and CNN2",
    "table3": "CIFAR-10 with WRN-40-10 and Restricted ImageNet with ResNet-50",
    "table4": "SVHN and CIFAR-10 with WRN-40-10, dropout 0.5 and 0.2",
    TABLE: "MNIST, CIFAR-10, SVHN and Restricted ImageNet with RST on both sets",
}

_SCALED = {
    "smoke": "built-in data and small networks stand in for the paper's",
    "laptop": "part of MNIST, a network for it and few epochs stand in for the paper's",
    "paper": "the paper's data, networks and training",
}

_SCALED_SETS = {
    "smoke": "built-in data sets stand in for the paper's",
    "laptop": "all images of three data sets, one of them not the paper's",
    "paper": "all images of the paper's data sets",
}
"""The same of table 1, which trains nothing."""

_SCALED_PROOF = _SCALED | {"paper": "the paper's data sets at their radii in the tables, this project's training"}
"""The same of the proof of concept."""

TableFiles = tuple[list[Path], list[str]]
"""The files of a table, the Markdown first, and what is missing from it and why, a line each."""


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """A table to reproduce.

    Args:
        table: One of `TABLES`, or `proof-of-concept`.
        scale: One of `SCALES`.
        out: Folder that holds the table's folder.
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
        """The folder of the table and its studies."""
        return self.out / f"{self.table}-{self.scale}"

    @property
    def title(self) -> str:
        """The title above the table."""
        return f"{TITLES[self.table]} ({self.scale})"

    @property
    def remark(self) -> str:
        """The note below the table on how the scale differs from the paper's."""
        by_scale = {"table1": _SCALED_SETS, TABLE: _SCALED_PROOF}.get(self.table, _SCALED)
        scaled = by_scale[self.scale]
        return f"scale {self.scale}: {scaled} ({_OF_THE_PAPER[self.table]}); docs/reproduce.md lists the differences"
