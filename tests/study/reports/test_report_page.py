"""The report: what it says, that it is whole and escaped, and how it behaves in a browser without a network."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from helpers.studies.pages import SCRIPTS, page_of, text_of
from helpers.studies.synthetic_results import METHODS, as_table, result_row, study_rows

from analysis.data.results import example_columns, trial_file, write_columns, write_rows
from analysis.data.schema import EXAMPLE, RESULT
from analysis.report.chart_data import chart_data
from analysis.statistics.front_posterior import FrontPosterior
from analysis.statistics.radius_curves import Curve, curve_of
from analysis.statistics.theorem_radius import TheoremRadius
from study.reports.report import write_report


def test_the_page_says_what_the_rows_say_and_fetches_nothing() -> None:
    page = page_of(study_rows(60, seed=3), config="name: toy\n")
    text = text_of(page)
    failed = sum(row["status"] == "failed" for row in study_rows(60, seed=3))
    assert f"60 trials over 3 methods on digits: {failed} failed" in text
    assert "Association, not cause" in text
    assert "name: toy" in text
    markup = SCRIPTS.sub("", page)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", markup)
    assert "default-src 'none'" in markup
    assert page.count("plotly.js v") == 1
    front = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert set(front["trials"]["id"]) <= {row["trial_id"] for row in study_rows(60, seed=3)}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([result_row(0)], "1 trial"),
        ([result_row(0, status="failed", reason="diverged", val_clean_accuracy=None, val_robust_accuracy=None)],
         "there is no front"),
        ([result_row(0, flags=["zero_gradients"])], "1 flagged zero_gradients"),
        ([result_row(n) for n in range(12)], "No sound trial was proposed independently of results"),
        ([result_row(n, proposal="random") for n in range(6)],
         "Associations need at least 8 randomly proposed trials; this study has 6."),
        ([result_row(n, proposal="random") for n in range(9)], "The 9 trials proposed independently of results are"),
    ],
)  # fmt: skip
def test_small_and_failed_studies_have_a_page_too(rows, text) -> None:
    assert text in text_of(page_of(rows))


def test_names_cannot_break_out_of_the_page() -> None:
    page = page_of([result_row(0, study="</script><b>x", method="<i>m:M")], config="a: <script>")
    assert "</script><b>x" not in page
    assert "<i>m" not in SCRIPTS.sub("", page)


def test_cards_leave_open_what_rows_cannot_know() -> None:
    rows = [result_row(0), result_row(1, replicate_of=0, val_robust_accuracy=0.45)]
    text = text_of(page_of(rows))
    assert "open:  no row can know; a person must try" in text
    assert "2 seeds of these settings: robust accuracy from 0.450 to 0.500" in text


def test_charts_are_thinned_but_the_front_is_whole() -> None:
    table = as_table(study_rows(200, seed=1))
    found = chart_data(table)
    kinds = found["trials"]["k"]
    assert {index for index, kind in enumerate(kinds) if kind == 0} <= set(found["thin"])
    assert found["growth"]["volume"][-1] == pytest.approx(max(found["growth"]["volume"]))


CURVES = [
    Curve(trial_id="t00003", method="trades", split="val", attack="PGD-10", norm="linf", examples=200,
          radii=(0.0, 0.1, 0.2), accuracies=(0.9, 0.5, 0.1)),
    curve_of(result_row(5)),
]  # fmt: skip


def test_charts_have_what_the_rows_say() -> None:
    rows = [
        result_row(n, method=("trades", "natural")[n % 2], proposal=("random", "sampler")[n % 2], clean_gap=0.01 * n,
                   best_val_robust_accuracy=0.5 + 0.01 * n, **{"param.beta": 1.0 + n if n % 2 == 0 else None})
        for n in range(6)
    ]  # fmt: skip
    reach = TheoremRadius(dataset="digits", norm="linf", two_r=0.4, contradicting=0, consistent_two_r=0.4, examples=9)
    found = chart_data(as_table(rows), curves=CURVES, reach=reach, devices=0.5, unit="GPU-hours")
    trials = found["trials"]
    assert trials["r"] == [1, 0] * 3
    assert trials["cg"] == [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    assert trials["cr"] == [0.4] * 6
    assert trials["by"] == [0.5, 0.51, 0.52, 0.53, 0.54, 0.55]
    assert trials["rg"] == [None] * 6
    assert [(each["name"], each["values"]) for each in found["settings"]] == [
        ("strength", [1.0, None, 3.0, None, 5.0, None])
    ]
    assert [curve["accuracies"] for curve in found["curves"]] == [[0.9, 0.5, 0.1], [0.9, 0.5]]
    assert found["reach"]["r"] == 0.2
    assert (found["growth"]["unit"], found["growth"]["hours"][-1]) == ("GPU-hours", pytest.approx(6 * 3 * 0.5 / 3600))


def test_in_space_a_method_keeps_its_shape_and_only_doubtful_trials_are_hollow() -> None:
    rows = [result_row(n, method=method) for n, method in enumerate([*METHODS, "mine:other"])]
    found = {method["name"]: method for method in chart_data(as_table(rows))["methods"]}
    for name in ("natural", "gradient_regularization", "locally_linear", "trades"):
        assert found[name]["solid"] == found[name]["symbol"]
    assert {method["solid"] for method in found.values()} <= {"circle", "square", "diamond", "cross"}
    assert not any(method["solid"].endswith("-open") for method in found.values())
    assert all(method["hollow"].endswith("-open") for method in found.values())
    for method in found.values():
        go.Scatter3d(marker_symbol=[method["solid"], method["hollow"]])


def test_a_trial_off_the_front_that_is_likelier_than_a_member_is_in_a_table() -> None:
    accuracies = [(0.95, 0.3), (0.9, 0.5), (0.89, 0.49), (0.88, 0.48), (0.2, 0.1)]
    rows = [
        result_row(n, val_clean_accuracy=clean, val_robust_accuracy=robust)
        for n, (clean, robust) in enumerate(accuracies)
    ]
    drawn = np.array([accuracies, accuracies])
    ids = tuple(row["trial_id"] for row in rows)
    belief = FrontPosterior(trials=ids, drawn=drawn, probability=np.array([0.9, 0.08, 0.09, 0.02, 0.0]), left_out=0)
    text = text_of(page_of(rows, belief=belief))
    beside = text.partition("Dominated trials that may truly be on the front")[2].partition("Dominated as measured")[0]
    assert re.findall(r"t0000\d", beside) == ["t00002"]


def test_the_chart_begins_near_the_front_and_members_stand_against_each_other() -> None:
    near = [result_row(n, val_clean_accuracy=0.9 + 0.01 * n, val_robust_accuracy=0.6 - 0.01 * n) for n in range(5)]
    far = [result_row(n, val_clean_accuracy=0.1, val_robust_accuracy=0.1) for n in range(5, 8)]
    data = chart_data(as_table([*near, *far]))
    (left, right), (bottom, top) = data["view"]
    points = zip(data["trials"]["x"], data["trials"]["y"], strict=True)
    inside = [left <= x <= right and bottom <= y <= top for x, y in points]
    assert inside == [True] * 5 + [False] * 3
    drawn = np.array([[(row["val_clean_accuracy"], row["val_robust_accuracy"]) for row in near]])
    ids = tuple(row["trial_id"] for row in near)
    belief = FrontPosterior(trials=ids, drawn=drawn, probability=np.ones(5), left_out=0)
    said = "Probability that the row's network truly dominates the column's"
    assert said in html.unescape(text_of(page_of([*near, *far], belief=belief)))
    assert said not in html.unescape(text_of(page_of([*near, *far])))


def test_without_a_separation_the_page_names_the_command() -> None:
    assert "`robust-study separation digits --out STUDY_DIR/separation`" in text_of(page_of([result_row(0)]))


def test_independent_proposals_that_did_not_complete_are_counted() -> None:
    rows = [result_row(n, proposal="random", status="failed" if n < 3 else "completed") for n in range(12)]
    assert "9 sound ones were proposed independently of results (3 more failed" in text_of(page_of(rows))


def made_up_folder(folder, count: int = 60):
    rows = study_rows(count, seed=3)
    write_rows(folder / "results" / "all.parquet", rows, RESULT)
    draw = np.random.default_rng(0)
    for row in rows:
        if row["status"] == "completed":
            level = draw.random(200)
            correct = {"index": np.arange(200), "clean_correct": level < row["val_clean_accuracy"],
                       "robust_correct": level < row["val_robust_accuracy"]}  # fmt: skip
            columns = example_columns(
                {"val": correct}, study="toy", trial_id=row["trial_id"], checkpoint="last", attack="pgd", epsilon=0.1
            )
            write_columns(trial_file(folder, row["trial_id"], schema=EXAMPLE), columns, EXAMPLE)
    return folder


def test_a_folder_of_results_gives_a_report_with_probabilities(tmp_path, capsys) -> None:
    write_report([made_up_folder(tmp_path)], out=None)
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    text = text_of((tmp_path / "report.html").read_text())
    assert "of the true accuracies" in text
    assert "truly on it with probability" in text


def sees_all_on_request(page) -> None:
    ranges = "document.getElementById('flat').layout.xaxis.range"
    near = page.evaluate(ranges)
    page.select_option("#extent", "all")
    assert page.evaluate(ranges) != near
    assert page.inner_text("#outside") == ""
    page.select_option("#extent", "near")
    assert page.evaluate(ranges) == near


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path) -> None:
    from helpers.services.browser import page as browser_page

    rows = [
        {
            **row,
            "best_val_robust_accuracy": row["val_robust_accuracy"],
            "best_val_clean_accuracy": row["val_clean_accuracy"],
        }
        for row in study_rows(300, seed=3)
    ]
    (tmp_path / "report.html").write_text(page_of(rows, curves=CURVES), encoding="utf-8")
    with browser_page() as page:
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"file://{tmp_path}/report.html")
        page.wait_for_selector("#flat .plotly .point, #flat .scatterlayer .point")
        shown = page.locator("#flat .scatterlayer .point").count()
        sees_all_on_request(page)
        page.keyboard.press("Tab")
        page.locator("input[name=method]").first.focus()
        page.keyboard.press("Space")
        page.wait_for_function(f"document.querySelectorAll('#flat .scatterlayer .point').length < {shown}")
        assert "trials shown" in page.inner_text("#count")
        hidden = page.evaluate("document.querySelectorAll('tr[data-method][hidden]').length")
        assert hidden > 0
        page.keyboard.press("Space")
        page.wait_for_function(f"document.querySelectorAll('#flat .scatterlayer .point').length == {shown}")
        page.select_option("#member", index=1)
        assert "robust" in page.inner_text("#chosen")
        ring = page.locator("#flat .scatterlayer .trace .point").last
        ring.scroll_into_view_if_needed()
        place = ring.bounding_box()
        for aside in (-30, 0):
            page.mouse.move(place["x"] + place["width"] / 2 + aside, place["y"] + place["height"] / 2)
        page.wait_for_selector("#flat .hovertext")
        page.locator("#flat").focus()
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        walked = page.inner_text("#chosen b")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.parentElement.id") == f"card-{walked}"
        for section in ("solid", "radii", "best", "smooth", "slice", "parallel"):
            page.locator(f"#{section}").scroll_into_view_if_needed()
            page.wait_for_function(f"drawn.has('{section}')")
        assert page.locator("#radii .scatterlayer .trace").count() == len(CURVES)
        assert page.locator("#radii .shapelayer path").count() >= 1
        for menu, chart, options in (("form", "smooth", ("lip", "sf")), ("kind", "best", ("clean", "robust"))):
            for option in options:
                page.select_option(f"#{menu}", option)
                assert page.locator(f"#{chart} .scatterlayer .point").count() > 100
        page.select_option("#parameter", label="dropout rate")
        assert page.text_content("#slice .xtitle") == "dropout rate"
        page.pdf(path=tmp_path / "printed.pdf")
        assert said == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


@pytest.mark.browser
def test_trials_far_behind_the_front_are_in_space_on_request_too(tmp_path) -> None:
    from helpers.services.browser import page as browser_page

    near = [result_row(n, val_clean_accuracy=0.9 + 0.01 * n, val_robust_accuracy=0.6 - 0.01 * n) for n in range(5)]
    far = [result_row(n, val_clean_accuracy=0.1, val_robust_accuracy=0.1) for n in range(5, 8)]
    (tmp_path / "report.html").write_text(page_of([*near, *far]), encoding="utf-8")
    with browser_page() as page:
        page.goto(f"file://{tmp_path}/report.html")
        page.locator("#solid").scroll_into_view_if_needed()
        page.wait_for_function("drawn.has('solid')")
        in_space = "document.getElementById('solid').data.reduce((n, trace) => n + trace.x.length, 0)"
        for extent, count in (("near", 5), ("all", 8)):
            page.select_option("#extent", extent)
            assert page.evaluate(in_space) == count


@pytest.mark.browser
def test_ten_thousand_trials_load_in_three_seconds(tmp_path) -> None:
    from helpers.services.browser import shown_after

    (tmp_path / "report.html").write_text(page_of(study_rows(10_000, seed=3)), encoding="utf-8")
    walls, busy = zip(*(shown_after(tmp_path / "report.html") for _ in range(3)), strict=True)
    print("10,000 trials shown after", ", ".join(f"{wall:.1f} s" for wall in walls))  # noqa: T201
    # on a machine with other work the first says nothing of the page
    assert min(*walls, *busy) < 3
