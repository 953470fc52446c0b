"""Times of proposals are stated in several places, always the same ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study.search.samplers import SAMPLERS

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = r"([\d.]+)(?: ms)?(?:,| /) ([\d.]+)(?: ms)?(?:,| /) ([\d.]+)"


def stated(place: str) -> set[tuple[str, ...]]:
    """The times at 100, 1,000 and 2,000 trials that a text states."""
    text = place if "ms" in place else (ROOT / place).read_text(encoding="utf-8")
    return {found for found in re.findall(NUMBERS, text) if found[0] != "100"}


TWO, THREE, NSGA2 = ("13", "62", "114"), ("17", "95", "182"), ("0.3", "0.9", "5.9")


@pytest.mark.parametrize("place", ["docs/search.md", "docs/scale.md", "benchmarks/README.md"])
def test_every_text_states_the_same_times(place):
    assert {TWO, THREE, NSGA2} <= stated(place)


def test_list_states_them_too():
    assert stated(SAMPLERS["tpe"].cost) == {TWO, THREE}
    assert SAMPLERS["nsga2"].cost == "at most 6 ms up to 2,000 trials"
