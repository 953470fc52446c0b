"""The linearisation's steepest points against every corner of the ball, every sign, and a far longer search."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.networks.toy_problems import linear

from trainables.attacks.threat import ThreatModel
from trainables.evaluation import lipschitz_starts
from trainables.evaluation.lipschitz_starts import LARGEST_EXACT, LARGEST_FORMED, steepest_points

LINF, L2 = ThreatModel("linf", 0.3), ThreatModel("l2", 0.3)


def steepest(matrix, x, threat=LINF, seed=0):
    return steepest_points(linear(matrix).to(x), x, threat=threat, draws=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(5))
def test_linf_points_are_the_best_of_all_corners_cut_by_the_box(seed):
    """A convex function is largest at a corner, here of a ball that the box cuts at some pixels."""
    draws = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 6, generator=draws, dtype=torch.float64)
    x = torch.rand(7, 1, 2, 3, generator=draws, dtype=torch.float64).mul(1.4).sub(0.2).clamp(0, 1)
    sides = steepest(matrix, x)
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
    for side in steepest(matrix, x, L2):
        rise = ((side[:2] - x).flatten(1) @ matrix.T).norm(dim=1)
        expected = torch.full((2,), 0.3 * torch.linalg.matrix_norm(matrix, 2).item(), dtype=torch.float64)
        assert torch.allclose(rise, expected)


def over_all_signs(matrix):
    """Return the largest ||J delta||_1 in the unit cube, of all 2^13 signs up to the global one."""
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=len(matrix) - 1)))
    return (torch.cat([torch.ones(len(signs), 1), signs], 1) @ matrix).abs().sum(1).max()


def long_search(matrix):
    """Return the largest of 60 plain alternations of 30 steps."""
    signs = torch.randn(60, len(matrix), generator=torch.Generator().manual_seed(1)).sign()
    best = torch.tensor(0.0)
    for _ in range(30):
        slopes = signs @ matrix
        best = torch.maximum(best, slopes.abs().sum(1).max())
        signs = (slopes.sign() @ matrix.T).sign()
    return best


@pytest.mark.parametrize(("classes", "pixels", "reference"), [
    (14, 64, over_all_signs), (14, 400, over_all_signs), (20, 64, long_search), (LARGEST_FORMED, 196, long_search),
    (100, 64, long_search), (100, 196, long_search), (100, 784, long_search),
])  # fmt: skip
def test_with_many_classes_the_points_are_close_to_the_best(classes, pixels, reference):
    """Each image of a linear network is a search of its own, and none is below 0.97."""
    x = torch.full((6, 1, 1, pixels), 0.5)
    for seed in range(2):
        matrix = torch.randn(classes, pixels, generator=torch.Generator().manual_seed(seed))
        ahead, back = steepest(matrix, x, seed=seed)
        for form, rows in enumerate((matrix, matrix - matrix.mean(0))):
            part = slice(6 * form, 6 * form + 6)
            rises = [((side[part] - x).flatten(1) @ rows.T).abs().sum(1) for side in (ahead, back)]
            share = torch.maximum(*rises) / (LINF.epsilon * reference(rows))
            assert share.min() >= 0.97


@pytest.mark.parametrize(("classes", "least"), [(40, 0.9999), (100, 0.93)])
def test_l2_points_with_many_classes_are_close_to_the_first_singular_vector(classes, least):
    matrix = torch.randn(classes, 784, generator=torch.Generator().manual_seed(0))
    x = torch.full((8, 1, 28, 28), 0.5)
    for side in steepest(matrix, x, L2):
        rise = ((side[:8] - x).flatten(1) @ matrix.T).norm(dim=1)
        share = rise / (L2.epsilon * torch.linalg.matrix_norm(matrix, 2))
        assert ((share >= least) & (share <= 1 + 1e-5)).all()


def test_a_jacobian_that_is_too_large_is_not_formed(monkeypatch):
    x, matrix = torch.full((8, 1, 1, 64), 0.5), torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(lipschitz_starts, "_LARGEST_JACOBIAN", 20 * 8 * 64 - 1)
    monkeypatch.setattr(lipschitz_starts, "_by_formed_ascent", None)
    ahead, _ = steepest(matrix, x)
    assert (LINF.distance(ahead, torch.cat([x, x])) > 0.29).all()
    monkeypatch.setattr(lipschitz_starts, "_LARGEST_JACOBIAN", 20 * 8 * 64)
    with pytest.raises(TypeError):
        steepest(matrix, x)


@pytest.mark.parametrize("classes", [3, LARGEST_EXACT + 1, LARGEST_FORMED + 1])
def test_points_are_the_image_where_there_is_no_direction(classes):
    x = torch.full((2, 1, 2, 3), 0.5)
    ahead, back = steepest(torch.zeros(classes, 6), x)
    assert torch.equal(ahead, torch.cat([x, x]))
    assert torch.equal(back, torch.cat([x, x]))
