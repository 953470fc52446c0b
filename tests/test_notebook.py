"""docs/analysis.md runs as it stands, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from helpers.studies.synthetic_results import study_rows

from analysis.data.results import example_columns, trial_file, write_columns, write_rows
from analysis.data.schema import EXAMPLE, RESULT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "analysis.md"


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
    assert len(blocks) == 7
    names = {"study_dir": tmp_path, "out_dir": tmp_path / "figures"}
    exec("\n".join(blocks), names)
    assert "hypervolume of the true accuracies" in capsys.readouterr().out
    assert (tmp_path / "figures" / "table.tex").is_file()
    assert (tmp_path / "figures" / "pareto.pdf").is_file()
