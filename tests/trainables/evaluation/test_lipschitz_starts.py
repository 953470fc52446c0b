"""The linearisation's steepest points against every corner of the ball."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.networks.toy_problems import linear

from trainables.attacks.threat import ThreatModel
from trainables.evaluation.lipschitz_starts import LARGEST_CLASSES, steepest_points

LINF = ThreatModel("linf", 0.3)


@pytest.mark.parametrize("seed", range(5))
def test_linf_points_are_the_best_of_all_corners_cut_by_the_box(seed):
    """A convex function is largest at a corner, here of a ball that the box cuts at some pixels."""
    draws = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 6, generator=draws, dtype=torch.float64)
    x = torch.rand(7, 1, 2, 3, generator=draws, dtype=torch.float64).mul(1.4).sub(0.2).clamp(0, 1)
    sides = steepest_points(linear(matrix).double(), x, threat=LINF)
    for form, rows in enumerate((matrix, matrix - matrix.mean(0))):
        changes = [(side[7 * form : 7 * form + 7] - x).flatten(1) @ rows.T for side in sides]
        corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)), dtype=torch.float64)
        for i, image in enumerate(x):
            reached = LINF.project(image + LINF.epsilon * corners.reshape(-1, 1, 2, 3), image.expand(64, 1, 2, 3))
            best = ((reached - image).flatten(1) @ rows.T).abs().sum(1).max()
            assert max(side[i].abs().sum() for side in changes).item() == pytest.approx(best.item(), rel=1e-9)


def test_l2_points_lie_along_the_first_singular_vector():
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.full((2, 1, 2, 3), 0.5, dtype=torch.float64)
    for side in steepest_points(linear(matrix).double(), x, threat=ThreatModel("l2", 0.3)):
        rise = ((side[:2] - x).flatten(1) @ matrix.T).norm(dim=1)
        expected = torch.full((2,), 0.3 * torch.linalg.matrix_norm(matrix, 2).item(), dtype=torch.float64)
        assert torch.allclose(rise, expected)


@pytest.mark.parametrize("classes", [3, LARGEST_CLASSES + 1])
def test_points_are_the_image_where_there_is_no_direction(classes):
    x = torch.full((2, 1, 2, 3), 0.5)
    ahead, back = steepest_points(linear(torch.zeros(classes, 6)), x, threat=LINF)
    assert torch.equal(ahead, torch.cat([x, x]))
    assert torch.equal(back, torch.cat([x, x]))
