"""The report's first screen and its answers agree with the page's tables; nothing on the page is empty."""

from __future__ import annotations

import csv
import functools
import io
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.studies.pages import SCRIPTS, belief_of, json_of, page_of, text_of
from helpers.studies.synthetic_results import METHODS, as_table, evaluation_row, result_row, study_rows

from analysis.fronts.member_choice import best_at_floor
from analysis.fronts.objectives import FRONT
from analysis.heldout.confirmation import confirmed
from analysis.heldout.members import HeldoutResults
from analysis.material import StudyMaterial
from analysis.method_styles import STYLES, short_name, styles_for
from analysis.plots.screen import ON_DARK
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.scatter import robust_chart
from analysis.plots.trials.trial_points import MOST_POINTS, trials_of
from analysis.report.key_numbers import key_numbers
from analysis.report.parts.charts import on_dark
from analysis.statistics.association import LEAST, lipschitz_associations, random_share
from analysis.statistics.intervals import accuracy_of


class Tables(HTMLParser):
    """The captions, headings and cells of a page's tables, and the buttons that copy them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[dict] = []
        self.copies: list[dict[str, str]] = []
        self._into = None
        self.feed(SCRIPTS.sub("", page))

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if tag == "table" and known.get("class") != "bars":
            self.tables.append({"caption": "", "headings": [], "rows": []})
            self.copies.append({})
        elif tag == "caption":
            self._into = self.tables[-1]
        elif tag == "tr" and self.tables:
            self.tables[-1]["rows"].append([])
        elif tag in ("td", "th") and self.tables:
            self.tables[-1]["rows"][-1].append("")
            self._into = self.tables[-1]["rows"][-1]
        elif "data-copy" in known and "as " in known["aria-label"]:
            self.copies[-1][known["aria-label"].rpartition(" ")[2]] = known["data-copy"]

    def handle_endtag(self, tag):
        if tag in ("td", "th", "caption"):
            self._into = None

    def handle_data(self, data):
        if isinstance(self._into, list):
            self._into[-1] += data
        elif self._into is not None:
            self._into["caption"] += data

    def named(self, caption: str) -> list[dict[str, str]]:
        (found,) = (table for table in self.tables if table["caption"] == caption)
        head, *rows = found["rows"]
        return [dict(zip(head, row, strict=True)) for row in rows]


STUDY = [
    row | {"val_lipschitz_scale_free_mean": 1.0 + row["number"] % 7}  # another rank correlation than the raw estimate
    for row in study_rows(120, methods=METHODS, seed=3)
]
BELIEF = belief_of(STUDY)


@functools.cache
def study_page(*, belief: bool = False) -> str:
    """The report of `STUDY`, with or without its posterior."""
    return page_of(STUDY, **({"belief": BELIEF} if belief else {}))


FEW = study_rows(24, seed=1, failed=0)
WITHOUT_LIPSCHITZ = [row | {name: None for name in row if name.startswith("val_lipschitz")} for row in FEW]
ALL_FAILED = study_rows(6, failed=1.0)
ONE = [result_row(0)]
NO_FRONT = [result_row(n, flags=["zero_gradients"]) for n in range(5)]
PLAIN = [result_row(n, proposal="random", **{"param.dropout": None}) for n in range(12)]


def on_test(rows) -> HeldoutResults:
    evaluations = [evaluation_row(row["trial_id"], method=row["method"], lipschitz_mean=None) for row in rows]
    return HeldoutResults(
        members=tuple(confirmed(as_table(rows).to_pylist(), evaluations)),
        chosen=tuple(row["trial_id"] for row in rows),
        evaluations=tuple(evaluations),
        curse={},
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows", "more"),
    [(STUDY, {"belief": BELIEF}), (STUDY, {}), (FEW, {}), (WITHOUT_LIPSCHITZ, {}), (ALL_FAILED, {}), (ONE, {}),
     (NO_FRONT, {}), (PLAIN, {}), (ONE, {"on_test": on_test(ONE)})],
    ids=["study", "no outcomes", "few", "no Lipschitz", "failed", "one", "flagged", "no dropout", "on test"],
)  # fmt: skip
def test_no_table_and_no_column_is_empty_and_no_chart_only_says_why(rows, more) -> None:
    page = study_page(belief=bool(more)) if rows is STUDY else page_of(rows, **more)
    for table in Tables(page).tables:
        head, *cells = table["rows"]
        assert cells, table["caption"]
        empty = [head[at] for at, column in enumerate(zip(*cells, strict=True)) if set(column) <= {"-", ""}]
        assert empty == [], table["caption"]
    for name in re.findall(r'id="figure-([\w-]+)"', page):
        traces = json_of(page, f"figure-{name}")["data"]
        assert any(t.get("dimensions") or any(x is not None for x in t.get("x") or []) for t in traces), name
    assert page.count("<h3></h3>") == 0


def test_the_four_numbers_are_those_of_the_tables() -> None:
    material = StudyMaterial(table=as_table(STUDY), belief=BELIEF)
    page = study_page(belief=True)
    size, best, volume, correlation = key_numbers(material)
    for number in (size, best, volume, correlation):
        assert f">{number.value}</dd>" in page
        assert number.note in unescape(page)
    members = Tables(page).named("Members of the front")
    assert size.value == str(len(members))
    reaching = [row for row in members if float(row["clean (val)"].partition(" ")[0]) >= best.floor]
    top = max(reaching, key=lambda row: float(row["robust (val)"].partition(" ")[0]))
    assert f"{best.value} {best.note}" == f"{top['robust (val)']} · trial {top['trial']}, {top['method']}"
    assert f"hypervolume {volume.value} over".capitalize() in text_of(page)
    assert volume.note.endswith(str(BELIEF.hypervolume(reference=(0.0, 0.0))))
    row = next(
        row
        for row in Tables(page).named("Local Lipschitzness and …")
        if (row["of"], row["with"], row["among"]) == ("raw", "robust accuracy", "all methods")
    )
    said = f"{correlation.value} {correlation.note}"
    assert said.startswith(f"{correlation.value} [")
    assert float(correlation.value) == round(float(row["rank correlation"].partition(" ")[0]), 2)
    assert f"n = {row['n']} independent proposals" in correlation.note


def test_the_first_charts_show_the_trials_of_the_table() -> None:
    page = study_page()
    measured = {at for at, row in enumerate(STUDY) if row["status"] == "completed"}
    for name in ("flat-lipschitz", "flat-method", "robust"):
        drawn = [row for trace in json_of(page, f"figure-{name}")["data"] for row in trace.get("customdata") or []]
        assert sorted(drawn) == sorted(measured), name
    for name in ("solid", "smooth", "fronts"):
        drawn = {row for trace in json_of(page, f"figure-{name}")["data"] for row in trace.get("customdata") or []}
        assert drawn <= measured
        assert drawn, name
    points = [trace for trace in json_of(page, "figure-robust")["data"] if trace.get("customdata")]
    at = {row: y for trace in points for row, y in zip(trace["customdata"], trace["y"], strict=True)}
    assert at == {row: STUDY[row]["val_robust_accuracy"] for row in measured}


def test_of_many_trials_the_second_chart_draws_a_part_and_has_the_places_of_all() -> None:
    table = as_table(study_rows(MOST_POINTS + 400, seed=3))
    trials = trials_of(table)
    figure = robust_chart(trials, pareto_view(table))
    drawn = {row for trace in figure.data for row in trace.customdata or ()}
    assert set(np.flatnonzero(trials.front).tolist()) < drawn
    assert MOST_POINTS / 2 <= len(drawn - set(np.flatnonzero(trials.front).tolist())) <= MOST_POINTS
    assert figure.layout.meta["y"] == table["val_robust_accuracy"].to_pylist()


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([result_row(n) for n in range(12)], "A study with search.random_fraction above 0 has such trials."),
        ([result_row(n, proposal="random" if n < 6 else "sampler") for n in range(24)],
         "About 8 more trials ( robust-study resume STUDY_DIR --add-trials 8 ) bring the others"),
        ([result_row(n, proposal="random") for n in range(9)], "more trials, or fewer methods, would show them"),
    ],
)  # fmt: skip
def test_associations_that_cannot_be_computed_are_one_sentence(rows, sentence) -> None:
    page = page_of(rows)
    section = text_of(page.partition('id="lipschitz"')[2].partition('<details class="section"')[0])
    assert sentence in section
    assert "more are not known" not in section
    assert "Local Lipschitzness and …" not in [table["caption"] for table in Tables(page).tables]
    assert key_numbers(StudyMaterial(table=as_table(rows)))[-1].value == "none yet"


def test_associations_that_are_missing_beside_others_are_named_in_one_sentence() -> None:
    share = random_share(as_table(STUDY))
    found = [row for row in lipschitz_associations(share) if row.found]
    missing = [row for row in lipschitz_associations(share) if not row.found]
    assert found
    assert missing
    page = study_page()
    assert len(Tables(page).named("Local Lipschitzness and …")) == len(found)
    assert f"{len(missing)} more are not known" in text_of(page)


def test_methods_have_their_short_names_and_the_full_ones_once() -> None:
    text = text_of(study_page(belief=True))
    for method in METHODS:
        if short_name(method) != method and method != "trades":
            assert text.count(method) == 1, method
            assert text.count(short_name(method)) > 2


def test_each_table_can_be_copied_as_latex_and_csv() -> None:
    tables = Tables(study_page(belief=True))
    assert len(tables.tables) > 5
    for table, forms in zip(tables.tables, tables.copies, strict=True):
        head, *rows = table["rows"]
        copied = list(csv.reader(io.StringIO(forms["CSV"])))
        assert copied[0] == head
        assert [row[0] for row in copied[1:]] == ["" if row[0] == "-" else row[0] for row in rows]
        assert forms["LaTeX"].count(r"\\") == len(rows) + 1


def test_best_against_last_is_a_sentence_where_the_last_epoch_is_always_the_best() -> None:
    best = {"best_val_clean_accuracy": 0.9, "best_val_robust_accuracy": 0.5}
    rows = [result_row(n, best_epoch=5, **best) for n in range(3)]
    page = page_of(rows)
    assert "In every trial the last epoch is the best of those measured" in text_of(page)
    assert 'id="figure-best"' not in page
    assert 'id="figure-best"' in page_of([*rows, result_row(3, best_epoch=3, **best)])


def test_the_heading_separates_threat_model_and_attack_which_is_explained_once() -> None:
    page = page_of([result_row(0, attack="reachable_targets", eval_epsilon=0.15)])
    text = unescape(text_of(page))
    assert "threat model: \u2113∞, ε = 0.15; attack: reachable targets, 10 steps, 1 restart" in text
    assert text.count("climbs towards those wrong classes that the ball can reach") == 1
    assert "that the ball can reach" not in text_of(page_of(ONE))


def _luminance(colour: str) -> float:
    text = colour.lstrip("#")
    text = text if len(text) == 6 else "".join(2 * letter for letter in text)
    parts = np.array([int(text[at : at + 2], 16) for at in (0, 2, 4)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_each_colour_of_the_charts_can_be_seen_on_the_dark_page() -> None:
    methods = [*STYLES, *(f"own:M{n}" for n in range(6))]
    dark, page = on_dark(methods), _luminance("#14171A")
    shown = [dark[style.colour] for style in styles_for(methods).values()]
    shown += [ON_DARK[name] for name in ("black", "#444", "#555", "#777", "#999", "#b2182b", "#d00")]
    for colour in shown:
        assert (_luminance(colour) + 0.05) / (page + 0.05) > 3, colour


def test_the_filter_says_what_it_leaves_and_a_floor_out_of_reach_has_its_own_answer() -> None:
    page = study_page()
    legend = text_of(page.partition("<fieldset>")[2].partition("</fieldset>")[0])
    assert "The front, correlations and answers are always those of all methods." in legend
    assert '<input id="floor" type="number" min="0" max="1"' in page
    assert '<p class="member" id="unreached" data-row="none" hidden></p>' in page


def test_the_floor_is_the_one_that_the_console_states() -> None:
    members = [row for row in STUDY if row["status"] == "completed" and not row["flags"]]
    best = best_at_floor([[row[name] for name in FRONT] for row in members])
    number = key_numbers(StudyMaterial(table=as_table(STUDY)))[1]
    assert best is not None
    assert (number.floor, number.value) == (best.floor, f"{best.robust:.3f}")
    assert number.note.startswith(f"[{accuracy_of(members[best.index], 'val_robust').low:.3f}")
    assert LEAST == 8
