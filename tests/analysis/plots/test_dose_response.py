"""The dose-response figure draws its data; tables and the report's section are there with a grid, and only with one."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.studies.dosed import DOSES, dosed_rows
from helpers.studies.pages import page_of, text_of
from helpers.studies.synthetic_results import as_table, result_row, study_rows
from matplotlib.colors import to_hex

from analysis.fronts.front import front_of
from analysis.method_styles import styles_for
from analysis.plots.studies.dose_response import dose_response_sheet
from analysis.plots.trials.two_fronts import fronts_figure, new_methods_sheet
from analysis.report.parts.intervention_section import intervention_section
from analysis.statistics.intervention import RESPONSES, experiment_of, points
from analysis.tables.intervention_tables import intervention_tables, write_intervention


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return dosed_rows(np.random.default_rng(0))


def test_each_panel_draws_its_points_with_their_intervals_and_natural_training(rows: list[dict[str, Any]]) -> None:
    experiment = experiment_of(as_table(rows))
    assert experiment is not None
    sheet, found = dose_response_sheet(experiment), points(experiment)
    panels = np.array(sheet.figure.axes).reshape(len(RESPONSES), len(DOSES))
    for line, response in zip(panels, RESPONSES, strict=True):
        for ax, method in zip(line, styles_for(DOSES), strict=True):
            drawn = {
                (to_hex(bars.lines[0].get_color()), x): y
                for bars in ax.containers
                for x, y in zip(bars.lines[0].get_xdata(), bars.lines[0].get_ydata(), strict=True)
            }
            colours = {0.0: "#0072b2", 0.5: "#d55e00"}
            assert drawn == {
                (colours[point.dropout], point.dose): point.mean.value
                for point in found
                if (point.method, point.response) == (method, response)
            }
            levels = [each.get_ydata()[0] for each in ax.get_lines() if list(each.get_xdata()) == [0, 1]]
            assert sorted(levels) == sorted(
                point.mean.value for point in found if (point.method, point.response) == ("natural", response)
            )
    assert "means over 3 trials" in sheet.figure.get_supxlabel().replace("\xa0", " ")
    assert len(sheet.rows) == len(found)
    assert {row[-1] for row in sheet.rows} == {3}


def test_the_small_print_counts_the_whole_study_with_its_failures(rows: list[dict[str, Any]]) -> None:
    failed = [result_row(900 + n, method="mtl_ibp", status="failed", val_clean_accuracy=None) for n in range(4)]
    experiment = experiment_of(as_table([*rows, *failed]))
    assert experiment is not None
    text = " ".join(dose_response_sheet(experiment).figure.get_supxlabel().replace("\xa0", " ").split())
    assert f"n = {len(rows) + 4} trials (4 failed, 0 flagged)" in text
    assert f"{len(rows)} in the figure · points: means over 3 trials" in text


def test_tables_are_written_with_their_numbers(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    experiment = experiment_of(as_table(rows))
    assert experiment is not None
    names = ("dose_effects", "dose_correlations", "dropout_gaps", "mediation")
    written = write_intervention(experiment, tmp_path)
    assert [path.name for path in written] == [f"{name}.{suffix}" for name in names for suffix in ("md", "csv")]
    effects = list(csv.DictReader(io.StringIO((tmp_path / "dose_effects.csv").read_text())))
    shown = intervention_tables(experiment)["dose_effects"].text().cells()
    assert [row["method"] for row in effects] == ["adversarial_training", "trades", "lipschitz_penalty"]
    for row, cells in zip(effects, shown, strict=True):
        ends = [float(row[f"raw Lipschitz, change{end}"]) for end in ("", ", low", ", high")]
        assert cells[3] == "{:.3g} [{:.3g}, {:.3g}]".format(*ends)
        assert 0.5 < ends[1] < ends[0] < ends[2] < 0.65  # a factor, 2 ** -0.8


@pytest.mark.long
def test_the_reports_section_is_there_with_such_a_grid_and_only_then(rows: list[dict[str, Any]]) -> None:
    page = page_of(rows)
    section = text_of(page[page.index('id="intervention"') : page.index('id="settings"')])
    for text in ("beta of TRADES", "One doubling of the dose", "No causal share is claimed", "between seeds"):
        assert text in section
    assert "Settings with several seeds" in page
    other = page_of(study_rows(20))
    assert 'id="intervention"' not in other
    assert "#intervention" not in other
    assert "Settings with several seeds" not in other


@pytest.mark.long
def test_trials_beyond_the_axes_of_both_fronts_are_counted() -> None:
    near = [result_row(n, val_clean_accuracy=0.95 - 0.01 * n, val_robust_accuracy=0.6 + 0.02 * n) for n in range(6)]
    far = [result_row(6 + n, method="mtl_ibp", val_clean_accuracy=0.1, val_robust_accuracy=0.1) for n in range(3)]
    table, beyond = as_table([*near, *far]), "3 trials far behind the front outside the axes"
    sheet = new_methods_sheet(table)
    assert sheet is not None
    assert beyond in " ".join(sheet.figure.get_supxlabel().replace("\xa0", " ").split())
    assert len(sheet.rows) == 9
    for together in (True, False):
        figure = fronts_figure([("a", as_table(near)), ("b", table)], together=together)
        assert beyond in " ".join(figure.get_supxlabel().replace("\xa0", " ").split())


@pytest.mark.long
def test_fronts_with_and_without_new_methods(rows: list[dict[str, Any]]) -> None:
    clean = {"trades": 0.9, "lipschitz_penalty": 0.95, "natural": 0.99, "adversarial_training": 0.8}
    table = as_table([row | {"val_clean_accuracy": clean[row["method"]]} for row in rows])
    paper = table.filter([method != "lipschitz_penalty" for method in table["method"].to_pylist()])
    sheet = new_methods_sheet(table)
    assert sheet is not None
    assert len(sheet.rows) == table.num_rows
    for place, part in ((-2, paper), (-1, table)):
        assert {row[1] for row in sheet.rows if row[place]} == set(front_of(part)["trial_id"].to_pylist())
    assert new_methods_sheet(paper) is None
    (text,) = [part for part in intervention_section(table) if "hypervolume" in part]
    first, second = map(float, re.findall(r"hypervolume (0\.\d+)", text))
    assert first < second
    assert "(LipPen)" in text
    assert not [part for part in intervention_section(paper) if "hypervolume" in part]
