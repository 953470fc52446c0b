"""The report in a browser: linked charts, the clean floor, folding, copying, dark mode, phones and paper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from helpers.services.browser import page as browser_page
from helpers.studies.pages import page_of
from helpers.studies.synthetic_results import METHODS, study_rows

from analysis.report.key_numbers import member_note

pytestmark = pytest.mark.browser

STRENGTHS = {"gradient_regularization": "lambda", "locally_linear": "lambda", "robust_self_training": "lambda"}
ROWS = [
    {**row, f"param.{STRENGTHS.get(row['method'], 'beta')}": 1.0 + row["number"]}
    for row in study_rows(120, methods=METHODS, seed=3)
]
RING = "byId('{}').data.at(-1).x"
VISIBLE = "byId('{}').data.filter(trace => trace.visible && trace.customdata).map(trace => trace.meta)"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page_of(ROWS), encoding="utf-8")
    return file


@contextmanager
def opened(report, *, width: int = 1400, dark: bool = False) -> Iterator:
    with browser_page(width=width) as page:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.goto(f"file://{report}")
        page.wait_for_function("drawn.has('flat') && drawn.has('robust')")
        yield page
        assert errors == []


def place(page, chart: str, row: int) -> list[float]:
    """Return where on the screen a chart has the trial of a row."""
    return page.evaluate(
        """([chart, row]) => {
            const {data, _fullLayout: {xaxis, yaxis}} = byId(chart), box = byId(chart).getBoundingClientRect();
            const trace = data.find(one => (one.customdata || []).includes(row)), at = trace.customdata.indexOf(row);
            return [box.x + xaxis._offset + xaxis.d2p(trace.x[at]), box.y + yaxis._offset + yaxis.d2p(trace.y[at])];
        }""",
        [chart, row],
    )


def test_a_trial_under_the_pointer_is_marked_in_the_other_chart(report) -> None:
    with opened(report) as page:
        start = page.evaluate(RING.format("flat"))
        row = int(page.locator("#member option").last.get_attribute("value"))
        columns = {"flat": "val_clean_accuracy", "robust": "val_lipschitz_mean"}
        for chart, other in (("flat", "robust"), ("robust", "flat")):
            x, y = place(page, chart, row)
            page.mouse.move(x - 60, y - 60)
            page.mouse.move(x, y)
            page.wait_for_selector(f"#{chart} .hovertext")
            hovered = ROWS[int(page.inner_text("#chosen b")[1:])]
            assert page.evaluate(RING.format(other)) == [pytest.approx(hovered[columns[other]], rel=1e-4)]
        assert len(start) == 1


def test_the_legend_hides_a_method_and_the_ring_around_its_trial_in_both_charts(report) -> None:
    with opened(report) as page:
        row = int(page.locator("#member").input_value())  # the one at the clean floor
        method = ROWS[row]["method"]
        assert all(page.evaluate(RING.format(chart)) for chart in ("flat", "robust"))
        page.locator(f"input[name=method][value={method}]").focus()
        page.keyboard.press("Space")
        for chart in ("flat", "robust"):
            shown = set(page.evaluate(VISIBLE.format(chart)))
            assert method not in shown
            assert shown
            assert page.evaluate(RING.format(chart)) == []


def test_the_clean_floor_chooses_the_trial_of_the_answers(report) -> None:
    members = {}
    with opened(report) as page:
        for option in page.locator("#member option").all()[1:]:
            row = ROWS[int(option.get_attribute("value"))]
            members[row["trial_id"]] = row
        for floor in ("0.95", "0.8"):
            page.fill("#floor", floor)
            page.keyboard.press("Tab")
            reaching = [row for row in members.values() if row["val_clean_accuracy"] >= float(floor)]
            best = max(reaching, key=lambda row: row["val_robust_accuracy"])
            assert page.inner_text("#at-floor") == f"{best['val_robust_accuracy']:.3f}"
            assert page.inner_text("#at-floor-note") == member_note(best)
            assert page.inner_text(".member:not([hidden])").startswith(f"Trial {best['trial_id']}:")
            assert page.evaluate(RING.format("flat")) == [pytest.approx(best["val_clean_accuracy"])]
        cleanest = max(members.values(), key=lambda row: row["val_clean_accuracy"])
        highest = f"{cleanest['trial_id']}, {cleanest['val_clean_accuracy']:.3f}."
        for floor, given in (("0.999", "0.999"), ("7", "1")):
            page.fill("#floor", floor)
            page.keyboard.press("Tab")
            assert page.input_value("#floor") == given
            assert page.inner_text("#at-floor") == "none"
            for place_of_answer in ("#at-floor-note", ".member:not([hidden])", "#chosen"):
                answer = page.inner_text(place_of_answer)
                assert answer == f"No member reaches {given}; the highest is {highest}"
            assert page.evaluate(RING.format("flat")) == []


def test_sections_unfold_by_keyboard_and_by_link_and_tables_are_copied(report) -> None:
    with opened(report) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        assert page.evaluate("[...document.querySelectorAll('details.section[open]')].map(one => one.id)") == [
            "answers"
        ]
        page.locator("#front > summary").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("byId('front').open")
        button = page.locator("#front button[data-copy]").first
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.textContent === 'copied'")
        assert page.evaluate("navigator.clipboard.readText()").startswith("% needs \\usepackage{booktabs}")
        page.locator("nav a", has_text="Lipschitzness").click()
        page.wait_for_function("byId('lipschitz').open && drawn.has('smooth')")


def test_the_charts_follow_a_dark_page_but_not_onto_paper(report) -> None:
    colours = """['flat', 'robust'].map(name => [byId(name)._fullLayout.paper_bgcolor,
        ...byId(name).data.flatMap(({marker}) => [marker?.color, marker?.line?.color])].flat())"""
    with opened(report, dark=True) as page:
        for shown in page.evaluate(colours):
            assert shown[0] == "#14171a"
            assert not {"#000000", "black", "#444"} & {colour for colour in shown if isinstance(colour, str)}
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert [shown[0] for shown in page.evaluate(colours)] == ["#fff", "#fff"]
        assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert [shown[0] for shown in page.evaluate(colours)] == ["#14171a", "#14171a"]
        assert page.evaluate("document.querySelectorAll('details.section[open]').length") == 1
        page.emulate_media(color_scheme="light")
        page.wait_for_function("byId('flat')._fullLayout.paper_bgcolor === '#fff'")


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(report, dark) -> None:
    with opened(report, width=390, dark=dark) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        for chart in page.evaluate("charts"):
            page.locator(f"#{chart}").scroll_into_view_if_needed()
            page.wait_for_function(f"drawn.has('{chart}')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_page_without_a_front_has_no_errors(tmp_path) -> None:
    (tmp_path / "report.html").write_text(page_of(study_rows(5, failed=1.0)), encoding="utf-8")
    with browser_page() as page:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"file://{tmp_path}/report.html")
        page.locator("input[name=method]").first.uncheck()
        page.pdf(path=tmp_path / "printed.pdf")
        assert errors == []
