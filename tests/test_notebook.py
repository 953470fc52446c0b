"""docs/analysis.md runs as it stands, top to bottom, on the names that `analysis` offers for it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.studies.synthetic_results import study_rows

import analysis as rs
from analysis.data.results import example_columns, trial_file, write_columns, write_rows
from analysis.data.schema import EXAMPLE, RESULT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "analysis.md"


@pytest.mark.long
def test_the_page_runs(tmp_path, capsys) -> None:
    rows = study_rows(30, seed=3)
    write_rows(tmp_path / "results" / "all.parquet", rows, RESULT)
    draw = np.random.default_rng(0)
    for row in rows:
        if row["status"] == "completed":
            level = draw.random(100)
            split = {
                "index": np.arange(100),
                "clean_correct": level < row["val_clean_accuracy"],
                "robust_correct": level < row["val_robust_accuracy"],
            }
            columns = example_columns(
                {"val": split}, study="toy", trial_id=row["trial_id"], checkpoint="last", attack="pgd", epsilon=0.1
            )
            write_columns(trial_file(tmp_path, row["trial_id"], schema=EXAMPLE), columns, EXAMPLE)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 8
    names = {"study_dir": tmp_path, "out_dir": tmp_path / "figures"}
    exec("\n".join(blocks), names)
    assert "hypervolume of the true accuracies" in capsys.readouterr().out
    assert (tmp_path / "figures" / "table.tex").is_file()
    assert (tmp_path / "figures" / "pareto.pdf").is_file()


def test_the_page_uses_every_name_of_the_library_and_no_other() -> None:
    used = set(re.findall(r"\brs\.(\w+)", PAGE.read_text(encoding="utf-8")))
    assert used == set(dir(rs))
    assert all(getattr(rs, name) is not None for name in dir(rs))


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(str(rs.__file__)).read_text(encoding="utf-8"))
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {line.names[0].asname: line.module for line in lines if "analysis" in line.module} == rs._MODULES


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match="'analysis' has no attribute 'front_off' \\(did you mean front_of\\?\\)"):
        _ = rs.front_off
    with pytest.raises(ImportError, match="cannot import name 'nothing_like_it'"):
        from analysis import nothing_like_it  # noqa: F401
