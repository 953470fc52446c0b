"""Result rows as a file that others read: Parquet or CSV."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any


def write_csv(path: Path, table: Any, /) -> None:
    """Write a table as CSV: numbers so that they read back equal, null empty, lists as JSON, inf and nan by name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for row in table.to_pylist():
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value) if isinstance(value, float) else value
