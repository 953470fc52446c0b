"""The separation figure: what is counted and marked, poor data, the same bytes each time."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.data.results import Table, to_table
from analysis.data.schema import SEPARATION
from analysis.plots.networks.separation import (
    certified_accuracy,
    draw_certified,
    draw_distances,
    histogram,
    write_separation,
)


def table(*rows: tuple[str, float | None, float | None], norm: str = "linf", scale: int = 255) -> Table:
    """Rows of (pairs, distance, certified radius)."""
    built: list[dict[str, Any]] = [
        {
            "dataset": "toy", "norm": norm, "scale": scale, "pairs": pairs, "split": pairs.split("-")[0],
            "index": index, "label": 0, "distance": distance, "contradicting": False, "certified_radius": radius,
        }
        for index, (pairs, distance, radius) in enumerate(rows)
    ]  # fmt: skip
    names = [column.name for column in SEPARATION.columns]
    return to_table({name: [row.get(name) for row in built] for name in names}, SEPARATION)


def many(norm: str) -> Table:
    levels = np.random.default_rng(0).integers(30, 256, 300)
    rows = [("train-train", level / 255, None) for level in levels]
    return table(*rows, *(("test-train", level / 255, level / 600) for level in levels[:50]), norm=norm)


POOR = {
    "no rows": table(),
    "no distances": table(("train-train", None, None), ("test-train", None, math.inf)),
    "one example": table(("train-train", 0.5, None)),
    "all zero": table(("train-train", 0.0, None), ("test-train", 0.0, 0.0)),
    "beyond one": table(("test-train", 7.25, 3.0), ("test-train", 9.0, math.inf), norm="l2"),
}


@pytest.mark.parametrize("case", POOR)
def test_poor_data_still_makes_a_figure(case: str, tmp_path: Path) -> None:
    paths = write_separation(POOR[case], tmp_path, epsilon=0.1, formats=("png",))
    assert [path.name for path in paths] == ["separation.png", "separation.csv", "certified_accuracy.csv"]


@pytest.mark.long
def test_formats_sizes_and_bytes(tmp_path: Path) -> None:
    first = write_separation(many("linf"), tmp_path / "a", epsilon=8 / 255)
    second = write_separation(many("linf"), tmp_path / "b", epsilon=8 / 255)
    assert [path.suffix for path in first] == [".png", ".pdf", ".csv", ".csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert int.from_bytes(first[0].read_bytes()[16:20], "big") == 990  # 3.3 in at 300 dots per inch


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown figure format 'gif'; valid: png, pdf, svg"):
        write_separation(many("linf"), tmp_path, epsilon=0.1, formats=("gif",))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_example_is_in_one_bin(norm: str) -> None:
    edges, counts = histogram(many(norm))
    assert {kind: heights.sum() for kind, heights in counts.items()} == {"train-train": 300, "test-train": 50}
    assert (np.diff(edges) > 0).all()


def test_linf_bins_hold_whole_levels() -> None:
    every = table(*(("train-train", level / 255, None) for level in range(256)))
    edges, counts = histogram(every)
    width = round((edges[1] - edges[0]) * 255)
    assert set(counts["train-train"][:-1].tolist()) == {width}


def test_certified_accuracy_is_strict() -> None:
    at, accuracy = certified_accuracy(table(*(("test-train", 0.5, radius) for radius in (0.0, 0.1, 0.1, math.inf))))
    assert at.tolist() == [0.0, 0.1]
    assert accuracy.tolist() == [0.75, 0.25]


def test_two_epsilon_and_two_r_are_marked() -> None:
    data = table(("train-train", 0.5, None), ("test-train", 0.25, 0.125))
    above, below = Figure().subplots(2, 1)
    draw_distances(data, above, epsilon=8 / 255)
    marks = {line.get_label(): line.get_xdata()[0] for line in above.lines}
    assert marks == {"2ε, ε = 8/255": 16 / 255, "2r = 0.25": 0.25}
    draw_certified(data, below, epsilon=8 / 255)
    assert 8 / 255 in [line.get_xdata()[0] for line in below.lines]


def test_the_data_lie_beside_the_figure(tmp_path: Path) -> None:
    write_separation(many("linf"), tmp_path, epsilon=0.1, formats=())
    with (tmp_path / "separation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["examples"]) for row in rows) == 350
    with (tmp_path / "certified_accuracy.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert curve[0]["epsilon"] == "0.0"
    assert float(curve[-1]["certified_test_accuracy"]) == 0
