"""Trials drawn in characters: where each is, what covers what, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.plots.characters import front_in_characters


def test_corners_and_members_are_where_they_belong() -> None:
    points = [(0.9, 0.6), (0.95, 0.3), (1.0, 0.4), (0.9, 0.0)]
    lines = front_in_characters(points, [True, False, True, False], width=29, height=5)
    assert lines == [
        " 0.600 |O",
        "       |                    O",
        "       |          .",
        "       |",
        " 0.000 |.",
        "robust +---------------------",
        "        0.900   clean   1.000",
        "        O front (2)   . other trials (2)",
    ]


def test_a_member_covers_another_trial_in_its_cell_and_all_characters_are_ascii() -> None:
    draw = np.random.default_rng(0)
    points = draw.random((500, 2))
    lines = front_in_characters(points, [True] + [False] * 499, width=40, height=8)
    assert "\n".join(lines).isascii()
    assert sum(line.count("O") for line in lines[:8]) == 1
    assert all(len(line) <= 40 and line == line.rstrip() for line in lines[:-1])


def test_a_collapsed_trial_does_not_squeeze_the_front_and_is_counted() -> None:
    points = [(0.99, 0.1), (0.96, 0.6), (0.1, 0.1), (0.9, 0.05)]
    lines = front_in_characters(points, [True, True, False, False])
    assert lines[-1].strip() == "O front (2)   . other trials (1)   1 further left"
    assert lines[-2].split() == ["0.870", "clean", "0.990"]


@pytest.mark.parametrize("points", [[(0.9, 0.5)], [(0.9, 0.5), (0.9, 0.5)], [(0.9, 0.2), (0.9, 0.6)], [(0.0, 0.0)]])
def test_equal_points_are_drawn(points) -> None:
    lines = front_in_characters(points, [True] * len(points))
    assert sum(line.count("O") for line in lines[:14]) == len(set(points))


def test_trials_without_accuracies_are_no_drawing() -> None:
    assert front_in_characters([(np.nan, 0.5), (0.9, np.nan)], [False, False]) == ["no trial with both accuracies yet"]
