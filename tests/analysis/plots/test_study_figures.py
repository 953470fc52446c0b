"""Figures for papers: what is drawn equals the CSV beside it, fonts, grey, poor studies."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.studies.synthetic_results import METHODS, as_table, result_row, study_rows
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.data.results import Table, to_table
from analysis.data.schema import SEPARATION
from analysis.fronts.front import MixedStudiesError, on_front
from analysis.fronts.growth import hypervolume_growth
from analysis.material import StudyMaterial
from analysis.method_styles import STYLES
from analysis.plots.figure import WIDTHS, PaperFigure, paper_style
from analysis.plots.studies.study_figures import paper_sheets, write_paper_figures
from analysis.plots.trials.trial_points import HEADINGS, trials_of
from analysis.statistics.association import LIPSCHITZ, OUTCOMES, measure, random_share, spearman
from analysis.statistics.hyperparameters import varying_settings
from analysis.statistics.networks.radius_curves import Curve, curve_of
from analysis.statistics.networks.theorem_radius import TheoremRadius, reach_of
from analysis.tables.text_table import csv_text

IMPORTANCE = {"val_clean_accuracy": {"param.dropout": 0.7, "method": 0.3}, "val_robust_accuracy": {"method": 1.0}}


def distances(*values: float, contradicting: tuple[bool, ...] = ()) -> Table:
    marks = contradicting or (False,) * len(values)
    built: list[dict[str, Any]] = [
        {
            "dataset": "digits", "norm": "linf", "scale": 16, "pairs": "train-train", "split": "train", "index": place,
            "label": 0, "distance": value, "contradicting": bad,
        }
        for place, (value, bad) in enumerate(zip(values, marks, strict=True))
    ]  # fmt: skip
    return to_table({column.name: [row.get(column.name) for row in built] for column in SEPARATION.columns}, SEPARATION)


def with_best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose best checkpoint is a little better in robust accuracy; and gaps."""
    found = []
    for row in rows:
        if row["val_robust_accuracy"] is None:
            found.append(row)
            continue
        more = {
            "best_val_robust_accuracy": row["val_robust_accuracy"] + 0.01,
            "best_val_clean_accuracy": row["val_clean_accuracy"] - 0.005,
            "clean_gap": 0.02 * row["val_clean_accuracy"],
            "robust_gap": 0.1 * row["val_robust_accuracy"],
        }
        found.append({**row, **more})
    return found


ROWS = with_best(study_rows(80, methods=METHODS, seed=4))
CURVE = Curve(
    trial_id="t00001", method="trades", split="val", attack="PGD-10", norm="linf", examples=200,
    radii=(0.0, 0.05, 0.1, 0.2), accuracies=(0.9, 0.8, 0.6, 0.2),
)  # fmt: skip


@pytest.fixture(scope="module")
def sheets() -> dict[str, PaperFigure]:
    study = StudyMaterial(
        table=as_table(ROWS), curves=[CURVE, curve_of(ROWS[0])], importance=IMPORTANCE, separation=distances(0.5, 0.75)
    )
    return {sheet.name: sheet for sheet in paper_sheets(study)}


def columns(sheet: PaperFigure) -> dict[str, list[str]]:
    """The data as read back from the CSV."""
    rows = list(csv.DictReader(io.StringIO(csv_text(sheet.headings, sheet.rows))))
    return {name: [row[name] for row in rows] for name in sheet.headings}


def pairs(sheet: PaperFigure, x: str, y: str) -> list[tuple[float, float]]:
    data = columns(sheet)
    found = zip(data[x], data[y], strict=True)
    return sorted((float(left), float(right)) for left, right in found if left and right)


def points_of(ax: Axes) -> np.ndarray:
    """Return the trials drawn into axes, shape (m, 2), without the rings around front members."""
    drawn = [np.asarray(each.get_offsets()) for each in ax.collections if each.get_gid() != "rings"]
    return np.concatenate(drawn) if drawn else np.empty((0, 2))


def drawn(ax: Any) -> list[tuple[float, float]]:
    return sorted(map(tuple, points_of(ax).tolist()))


def same(found: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    assert found
    np.testing.assert_allclose(found, expected)


def test_every_figure_of_a_study_is_there(sheets: dict[str, PaperFigure]) -> None:
    assert set(sheets) == {
        "lipschitz", "hypervolume", "slice_train_epsilon", "slice_dropout", "slice_strength", "parallel_coordinates",
        "importance", "accuracy_against_epsilon", "best_against_last", "robust_lipschitz",
    }  # fmt: skip


def test_lipschitz_panels_draw_their_data_and_the_random_shares_correlation(sheets: dict[str, PaperFigure]) -> None:
    sheet = sheets["lipschitz"]
    share = random_share(as_table(ROWS))
    panels = list(itertools.product(OUTCOMES, LIPSCHITZ))
    for ax, (outcome, of) in zip(sheet.figure.axes, panels, strict=True):
        same(drawn(ax), pairs(sheet, of, outcome))
        assert ax.get_xscale() == "log"
        found = spearman(measure(share, of), measure(share, outcome))
        assert found is not None
        assert f"{found.value:+.2f}" in ax.get_title()
        assert f"n = {found.n}" in ax.get_title()
    assert "PGD-10" in sheet.figure.axes[0].get_ylabel()
    assert "ε = 0.1" in sheet.figure.axes[-1].get_xlabel()
    assert "n = 80 trials" in sheet.figure.get_supxlabel().replace("\xa0", " ")


def test_slices_draw_their_data_and_mark_the_radii(sheets: dict[str, PaperFigure]) -> None:
    for name in ("train_epsilon", "dropout", "strength"):
        sheet = sheets[f"slice_{name}"]
        for ax, outcome in zip(sheet.figure.axes, sheet.headings[-3:], strict=True):
            same(drawn(ax), pairs(sheet, name, outcome))
    marks = [line.get_xdata()[0] for line in sheets["slice_train_epsilon"].figure.axes[0].lines]
    assert marks == [0.1]  # the reach, 0.25, lies beyond what was trained at


def test_best_against_last_and_growth_and_bars(sheets: dict[str, PaperFigure]) -> None:
    sheet = sheets["best_against_last"]
    for ax, kind in zip(sheet.figure.axes, ("robust", "clean"), strict=True):
        same(drawn(ax), pairs(sheet, f"val_{kind}_accuracy", f"best_val_{kind}_accuracy"))
    sheet, grown = sheets["hypervolume"], hypervolume_growth(as_table(ROWS))
    for ax, x in zip(sheet.figure.axes, ("trials", "worker_hours"), strict=True):
        (line,) = ax.lines
        np.testing.assert_allclose(line.get_xydata(), np.array(pairs(sheet, x, "hypervolume")))
        np.testing.assert_allclose(line.get_ydata(), grown.volume)
    sheet = sheets["importance"]
    shares = [bar.get_width() for ax in sheet.figure.axes for bar in ax.patches]
    assert shares == [float(share) for share in columns(sheet)["share"]]


def test_parallel_lines_pass_through_their_values(sheets: dict[str, PaperFigure]) -> None:
    sheet = sheets["parallel_coordinates"]
    (ax,) = sheet.figure.axes
    heights = [path.vertices[:, 1] for each in ax.collections for path in each.get_paths()]
    assert len(heights) == len(sheet.rows)
    robust = np.array([row[sheet.headings.index("val_robust_accuracy")] for row in sheet.rows], dtype=float)
    place = sheet.headings.index("val_robust_accuracy") - len(HEADINGS)
    expected = (robust - robust.min()) / np.ptp(robust)
    # the axis spans all sound trials, which are all drawn here
    np.testing.assert_allclose(sorted(line[place] for line in heights), sorted(expected))
    strengths = [row[sheet.headings.index("strength")] for row in sheet.rows]
    below = sum(line[sheet.headings.index("strength") - len(HEADINGS)] < 0 for line in heights)
    assert below == sum(value is None for value in strengths) > 0


def test_curves_and_reach(sheets: dict[str, PaperFigure]) -> None:
    sheet = sheets["accuracy_against_epsilon"]
    (ax,) = sheet.figure.axes
    lines = {line.get_gid(): line for line in ax.lines if line.get_gid() == "curve"}
    assert len(lines) == 1
    points = sorted(tuple(point) for line in ax.lines if line.get_gid() == "curve" for point in line.get_xydata())
    assert points == pairs(sheet, "epsilon", "robust_accuracy")
    (region,) = ax.patches
    assert region.get_x() == 0
    assert region.get_width() == pytest.approx(0.25)
    said = " ".join(text.get_text() for text in sheet.figure.legends[0].get_texts()).replace("\n", " ")
    assert "ε < r = 0.25: an accurate and robust classifier of these images exists" in said
    assert "two radii measured" in said


def test_reach_leaves_contradicting_images_out() -> None:
    assert reach_of(distances(0.5, 0.75)) == TheoremRadius(
        dataset="digits", norm="linf", two_r=0.5, contradicting=0, consistent_two_r=0.5, examples=2
    )
    contradicted = reach_of(distances(0.0, 0.5, contradicting=(True, False)))
    assert contradicted is not None
    assert (contradicted.two_r, contradicted.radius) == (0.0, 0.25)
    assert reach_of(distances()) is None


def test_rings_hollow_and_pale_points_are_the_right_ones(sheets: dict[str, PaperFigure]) -> None:
    table = as_table(ROWS)
    trials = trials_of(table)
    ax = sheets["best_against_last"].figure.axes[0]
    rings = [each for each in ax.collections if each.get_gid() == "rings"]
    assert sum(len(each.get_offsets()) for each in rings) == on_front(table).sum()
    hollow = [each for each in ax.collections if not len(each.get_facecolors()) and each not in rings]
    flagged = sum(bool(row["flags"]) and row["status"] == "completed" for row in ROWS)
    assert sum(len(each.get_offsets()) for each in hollow) == flagged > 0
    full = {tuple(np.round(each.get_facecolor()[0][:3], 2)) for each in ax.collections if len(each.get_facecolor())}
    assert len(full) == 2 * len(trials.styles)


@pytest.mark.long
def test_pdf_fonts_are_embedded_and_editable_and_bytes_repeat(tmp_path: Path) -> None:
    study = StudyMaterial(table=as_table(ROWS[:20]), importance=IMPORTANCE, separation=distances(0.5))
    for sheet in itertools.islice(paper_sheets(study), 1, 3):
        (first, data), (second, _) = (sheet.write(tmp_path / place, formats=["pdf"]) for place in "ab")
        pdf = first.read_bytes()
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        assert pdf == second.read_bytes()
        assert data.read_text().splitlines()[0] == ",".join(sheet.headings)


POOR = {
    "empty": [],
    "one trial": [result_row(0)],
    "all failed": [
        result_row(n, status="failed", val_clean_accuracy=None, val_robust_accuracy=None, val_lipschitz_mean=None,
                   val_lipschitz_scale_free_mean=None, seconds=None)
        for n in range(3)
    ],
    "infinite and missing": [
        result_row(0, val_lipschitz_mean=float("inf"), clean_gap=float("nan")),
        result_row(1, val_lipschitz_mean=0.0, val_lipschitz_scale_free_mean=None, train_epsilon=0.1),
        result_row(2, val_clean_accuracy=float("nan"), train_epsilon=0.2),
    ],
    "names with markup": [result_row(n, study="$x_1$ <b>&", method=f"pkg.mod:My_$Loss{n}") for n in range(2)],
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("case", POOR)
def test_poor_studies_still_make_figures(case: str, tmp_path: Path) -> None:
    # rendering is what costs: what can trip it is in one case
    formats = ["png"] if case == "infinite and missing" else []
    names = [path.name for path in write_paper_figures(as_table(POOR[case]), tmp_path, formats=formats)]
    assert {"pareto.csv", "lipschitz.csv", "hypervolume.csv", "best_against_last.csv"} <= set(names)
    assert all((tmp_path / name).stat().st_size for name in names)


def test_mixed_studies_are_refused(tmp_path: Path) -> None:
    mixed = as_table([result_row(0), result_row(1, eval_epsilon=0.2)])
    with pytest.raises(MixedStudiesError, match="eval_epsilon"):
        list(paper_sheets(mixed))
    with pytest.raises(ValueError, match="unknown figure format 'gif'; valid: png, pdf, svg"):
        write_paper_figures(as_table([result_row(0)]), tmp_path, formats=["gif"])


@pytest.mark.long
@pytest.mark.parametrize("width", WIDTHS.values())
def test_texts_stay_inside_and_apart(width: float) -> None:
    table = as_table([{**row, "study": "a-study-with-a-rather-long-name-2026"} for row in ROWS])
    every = paper_sheets(StudyMaterial(table=table, curves=[CURVE], importance=IMPORTANCE), width=width)
    for sheet in every if width == WIDTHS["column"] else itertools.islice(every, 3):
        figure = sheet.figure
        with paper_style():
            figure.draw_without_rendering()
        box, page = figure.get_tightbbox(), figure.bbox_inches
        assert box.x0 >= -0.02, sheet.name
        assert box.x1 <= page.x1 + 0.02, sheet.name
        assert box.y0 >= -0.02, sheet.name
        assert box.y1 <= page.y1 + 0.02, sheet.name
        for legend, ax in itertools.product(figure.legends, figure.axes):
            assert not legend.get_window_extent().overlaps(ax.get_window_extent()), sheet.name


def in_grey(style: Any, kind: str) -> np.ndarray:
    """A method's marker or line as a grey print shows it."""
    figure = Figure(figsize=(0.6, 0.2), dpi=150)
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    if kind == "marker":
        ax.plot([0], [0], marker=style.marker, color=style.colour, markersize=8)
    else:
        ax.plot([0, 1], [0, 0], color=style.colour, linestyle=style.line, linewidth=1.2)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("kind", ["marker", "line"])
def test_methods_are_told_apart_in_grey(kind: str) -> None:
    shown = {name: in_grey(style, kind) for name, style in STYLES.items()}
    for left, right in itertools.combinations(shown, 2):
        ink = np.minimum(shown[left], shown[right]) < 230
        differing = np.abs(shown[left] - shown[right])[ink] > 60
        assert differing.mean() > 0.08, (left, right)


def test_strength_takes_each_methods_own_parameter() -> None:
    rows = [
        result_row(n, method=("trades", "locally_linear")[n % 2],
                   **{"param.beta": 1.0 + n if n % 2 == 0 else None, "param.lambda": 2.0 + n if n % 2 else None,
                      "param.mu": 3.0 + n if n % 2 else None, "param.lr": 0.1})
        for n in range(6)
    ]  # fmt: skip
    found = {setting.name: setting for setting in varying_settings(as_table(rows))}
    assert set(found) == {"strength", "mu"}
    assert found["strength"].values.tolist() == [1.0, 3.0, 3.0, 5.0, 5.0, 7.0]
    assert found["strength"].label == "strength (lambda of LLR; beta of TRADES)"
