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


def test_every_fault_of_the_reliability_page_names_a_test_that_exists() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    written = set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in files), re.MULTILINE))
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1])
        assert named, f"no test is named for: {row}"
        assert not set(named) - written, row
