"""Settings with several seeds as one line: means, deviations, what is missing, and the four files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.studies.synthetic_results import as_table, result_row

from analysis.fronts.front import MixedStudiesError
from analysis.tables.settings_table import setting_lines, settings_table, write_settings_table

ROBUST = {"natural": (0.1, 0.2, 0.3), "trades": (0.5, 0.7, None), "mtl_ibp": (0.6,)}


def rows() -> list[dict]:
    found, first = [], {}
    for method, values in ROBUST.items():
        for value in values:
            number = len(found)
            of = first.setdefault(method, number)
            row = result_row(
                number,
                method=method,
                replicate_of=None if of == number else of,
                val_robust_accuracy=value,
                val_certified_accuracy=0.25 if method == "mtl_ibp" else None,
                status="completed" if value is not None else "failed",
            )
            row["param.beta"] = 6.0 if method == "trades" else None
            found.append(row)
    return found


def test_a_line_is_the_mean_and_deviation_over_seeds() -> None:
    lines = {line.first["method"]: line for line in setting_lines(as_table(rows()))}
    for method, values in ROBUST.items():
        known = [value for value in values if value is not None]
        line = lines[method]
        assert (line.n, line.trials) == (len(known), len(values))
        assert line.mean("val_robust_accuracy") == pytest.approx(np.mean(known))
        deviation = line.deviation("val_robust_accuracy")
        assert deviation == (pytest.approx(np.std(known, ddof=1)) if len(known) > 1 else None)
        assert line.mean("val_certified_accuracy") == (0.25 if method == "mtl_ibp" else 0.0)


def test_the_table_shows_them_in_the_figures_order() -> None:
    table = settings_table(as_table(rows()))
    cells = [dict(zip(table.headings, row, strict=True)) for row in table.cells()]
    assert [(cell["method"], cell["strength"], cell["n"], cell["robust"]) for cell in cells] == [
        ("natural", "-", "3", "0.200 ± 0.100"),
        ("TRADES", "beta 6", "2 of 3", "0.600 ± 0.141"),
        ("MTL-IBP", "-", "1", "0.600"),
    ]


def test_without_several_seeds_there_is_no_table(tmp_path: Path) -> None:
    alone = as_table([row | {"replicate_of": None} for row in rows()])
    assert not settings_table(alone).rows
    assert write_settings_table(alone, tmp_path) == []


def test_files_hold_the_numbers(tmp_path: Path) -> None:
    written = write_settings_table(as_table(rows()), tmp_path)
    assert [path.name for path in written] == ["settings.md", "settings.tex", "settings.csv", "settings.parquet"]
    (natural, *_) = csv.DictReader(io.StringIO(written[2].read_text()))
    assert float(natural["val_robust_accuracy_sd"]) == pytest.approx(0.1)
    assert pq.read_table(written[3])["val_robust_accuracy_n"].to_pylist() == [3, 2, 1]


def test_rows_of_different_measurements_share_no_table() -> None:
    with pytest.raises(MixedStudiesError):
        settings_table(as_table([*rows(), result_row(9, attack="fgsm")]))
