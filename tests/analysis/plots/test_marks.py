"""The marks of methods on a page are the markers of the figures for papers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.markers import MarkerStyle

from analysis.method_styles import STYLES, styles_for
from analysis.plots.marks import mark_svg

ALL = styles_for([*STYLES, *(f"elsewhere:Method{number}" for number in range(6))])


def outline(svg: str) -> np.ndarray:
    return np.array(re.findall(r"-?\d+\.\d{3}", svg), dtype=float).reshape(-1, 2)


@pytest.mark.parametrize("style", ALL.values(), ids=lambda style: style.label)
def test_a_mark_has_the_corners_of_the_marker_and_fits_its_box(style):
    marker = MarkerStyle(style.marker)
    corners = marker.get_transform().transform(marker.get_path().vertices[:-1]) * [1, -1]
    points = outline(mark_svg(style))
    assert np.abs(points).max() <= 0.71
    nearest = np.linalg.norm(corners[:, None] - points[None], axis=2).min(1)
    assert nearest.max() < 1e-3


def test_no_two_methods_have_the_same_mark():
    assert len({mark_svg(style) for style in ALL.values()}) == len(ALL) == 20


def test_up_is_up():
    up, down = (outline(mark_svg(STYLES[name])) for name in ("n_fgsm", "large_margin"))
    assert up[:, 1].min() == -down[:, 1].max() < -0.45
