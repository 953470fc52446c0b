"""A value in place of a list or mapping, or a list with an entry twice, is one line in the words of this project."""

from __future__ import annotations

import pytest

from study.config.loading import load_config
from study.config.trust import rules
from study.errors import UsageError
from trainables.methods import METHODS, PAPER_METHODS

SMALL = {"name": "t", "dataset": {"name": "digits"}, "search": {"space": "core", "num_trials": 2}}
RANGE = "must be [low, high] or {values: [...]}, got"
LIST, MAPPING = "must be a list, such as [a, b], got", "must be a mapping, such as {a: 1}, got"
TWICE = "search.objectives=[val_clean_accuracy, val_robust_accuracy, val_clean_accuracy]"


def problem(assignment: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(SMALL, assignments=[assignment])
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        (TWICE, "`search.objectives` lists 'val_clean_accuracy' more than once"),
        ("search.objectives=val_loss", f"`search.objectives` {LIST} 'val_loss'"),
        ("search.objectives=[]", "`search.objectives` must list at least one, got []"),
        ("search.methods=natural", f"`search.methods` {LIST} 'natural'"),
        ("search.methods=[natural, natural]", "`search.methods` lists 'natural' more than once"),
        ("search.constraints={val_loss: 1}", f"`search.constraints` {LIST} {{'val_loss': 1}}"),
        ("search.ranges={lr: 0.1}", f"`search.ranges.lr` {RANGE} 0.1"),
        ("search.ranges={lr: fast}", f"`search.ranges.lr` {RANGE} 'fast'"),
        ("search.ranges={lr: }", f"`search.ranges.lr` {RANGE} nothing"),
        ("search.ranges={lr: {}}", f"`search.ranges.lr` {RANGE} nothing"),
        ("search.ranges={lr: {values: 0.1}}", "`search.ranges.lr.values` must be a list, got 0.1"),
        ("search.ranges={lr: {values: }}", "`search.ranges.lr.values` must be a list, got None"),
        ("search.ranges={schedule: {values: cosine}}", "`search.ranges.schedule.values` must be a list, got 'cosine'"),
        ("search.ranges={lr: {values: {'0.1': a}}}", "`search.ranges.lr.values` must be a list, got {'0.1': 'a'}"),
        ("search.ranges={lr: {values: [1, 0.1, 1.0]}}", "`search.ranges.lr.values` lists 1.0 more than once"),
        ("search.ranges={craft_mode: {values: 3}}", "`search.ranges.craft_mode.values` must be a list, got 3"),
        ("search.ranges={craft_mode: {values: [3]}}", "`search.ranges.craft_mode`: `craft_mode` must look like bn="),
        ("search.fixed={craft_mode: 3}", "`search.fixed.craft_mode`: `craft_mode` must look like bn="),
        ("search.ranges={lr: {low: 0.1, high: 0.2, log: 3}}", "`search.ranges.lr.log` must be true or false, got 3"),
        (
            "search.ranges={clip_norm: {low: null, high: 10}}",
            "`search.ranges.clip_norm.low` must be a number, got None",
        ),
        ("search.ranges={ema: {low: 0.9, high: null}}", "`search.ranges.ema.high` must be a number, got None"),
        ("search.ranges={lr: {low: true, high: 1}}", "`search.ranges.lr.low` must be a number, got True"),
        ("search.ranges=[lr]", f"`search.ranges` {MAPPING} ['lr']"),
        ("search.fixed=lr", f"`search.fixed` {MAPPING} 'lr'"),
        ("search.fixed={pool: 3}", "`search.fixed.pool` must be text, got 3"),
        ("front.reference=[0.1]", f"`front.reference` {MAPPING} [0.1]"),
        ("resources.custom=big", f"`resources.custom` {MAPPING} 'big'"),
    ],
)
def test_another_form_is_one_line(assignment, line):
    assert problem(assignment).startswith(line)


def test_several_wrong_ranges_are_a_line_each():
    with pytest.raises(UsageError) as caught:
        load_config(SMALL, assignments=["search.ranges={lr: 1, dropout: 2, momentum: [0, 1]}"])
    assert caught.value.problems == (f"`search.ranges.lr` {RANGE} 1", f"`search.ranges.dropout` {RANGE} 2")


def test_a_study_that_had_an_objective_twice_can_be_read():
    with rules(reading=True):
        assert len(load_config(SMALL, assignments=[TWICE]).search.objectives) == 3


@pytest.mark.parametrize("given", ["all", "[all]"])
def test_all_methods_are_listed_by_name_and_the_papers_are_the_default(given):
    assert load_config(SMALL).search.methods == list(PAPER_METHODS)
    assert load_config(SMALL, assignments=[f"search.methods={given}"]).search.methods == list(METHODS)
    with pytest.raises(UsageError, match=r"`search\.methods` lists 'natural' more than once"):
        load_config(SMALL, assignments=["search.methods=[natural, all]"])
