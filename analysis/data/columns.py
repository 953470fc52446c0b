"""How the columns of result files are declared; `analysis.data.schema` declares them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

ColumnType = Literal["string", "int32", "int64", "float64", "bool", "list<string>"]


class ResultsError(ValueError):
    """Results that cannot be read, written or compared."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a result file.

    Args:
        name: Column name.
        type: Storage type.
        doc: What the column holds.
        unit: Unit of the values, empty for counts, fractions in [0, 1] and names.
        nullable: Whether a value may be absent. Null means "not measured"; NaN is a measured NaN.
        deterministic: Whether the same spec run twice on the same kind of machine gives the same value.
        like_for_like: Whether rows that differ here measure different things and cannot share a front.
        choices: Allowed values, empty for any.
        added: Whether it came after files of the schema's version were written: one without it is read as null.
    """

    name: str
    type: ColumnType
    doc: str
    unit: str = ""
    nullable: bool = False
    deterministic: bool = True
    like_for_like: bool = False
    choices: tuple[str, ...] = ()
    added: bool = False


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns of one kind of result file.

    Args:
        name: Kind of row, in the singular.
        version: Changes whenever a declared column is removed or changes its meaning, or one is added that is not null
            in earlier files.
        folder: Subfolder of a study that holds the files.
        columns: The declared columns, in file order.
        dynamic: Prefix of undeclared float64 columns a file may add, such as "param."; empty for none.
        dynamic_doc: What the dynamic columns hold.
        order: Columns that reading sorts by.
    """

    name: str
    version: int
    folder: str
    columns: tuple[Column, ...]
    dynamic: str = ""
    dynamic_doc: str = ""
    order: tuple[str, ...] = field(default=())

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """Return the declared columns by name."""
        return {column.name: column for column in self.columns}

    def find(self, name: str) -> Column | None:
        """Return the declared or dynamic column called `name`, or None if the schema has no such column."""
        if self.dynamic and name.startswith(self.dynamic) and len(name) > len(self.dynamic):
            return Column(name=name, type="float64", doc=self.dynamic_doc, nullable=True)
        return self.by_name.get(name)

    def deterministic_columns(self) -> tuple[str, ...]:
        """Return the declared columns whose values do not change when a spec is run twice."""
        return tuple(column.name for column in self.columns if column.deterministic)

    def like_for_like_columns(self) -> tuple[str, ...]:
        """Return the columns that must agree between the rows of one front."""
        return tuple(column.name for column in self.columns if column.like_for_like)
