"""Ball and box: properties, and examples by hand."""

from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.attacks.threat import ThreatModel

# Rounding of x + epsilon in fp32, with pixels and radii of at most 1.
SLACK = 2e-7
NORMS = ["linf", "l2"]

images = npst.arrays(np.float32, (3, 1, 2, 3), elements=st.floats(0, 1, width=32))
anything = npst.arrays(np.float32, (3, 1, 2, 3), elements=st.floats(-100, 100, width=32))
radii = st.floats(0, 1)


def inside(threat: ThreatModel, points: torch.Tensor, x: torch.Tensor) -> bool:
    exact = (points.double() - x.double()).flatten(1)
    length = exact.abs().amax(1) if threat.norm == "linf" else exact.square().sum(1).sqrt()
    # The l2 length of six pixels that are each off by an ulp.
    slack = SLACK if threat.norm == "linf" else 3 * SLACK
    return bool((length <= threat.epsilon + slack).all() and points.min() >= 0 and points.max() <= 1)


@pytest.mark.parametrize("norm", NORMS)
@given(x=images, points=anything, epsilon=radii)
def test_projection_lands_in_ball_and_box(norm, x, points, epsilon):
    threat, x, points = ThreatModel(norm, epsilon), torch.from_numpy(x), torch.from_numpy(points)
    assert inside(threat, threat.project(points, x), x)


@pytest.mark.parametrize("norm", NORMS)
@given(x=images, epsilon=radii, seed=st.integers(0, 2**32))
def test_random_start_lies_in_ball_and_box_and_is_repeatable(norm, x, epsilon, seed):
    threat, x = ThreatModel(norm, epsilon), torch.from_numpy(x)
    starts = [threat.random_start(x, generator=torch.Generator().manual_seed(seed)) for _ in range(2)]
    assert inside(threat, starts[0], x)
    assert torch.equal(*starts)


@pytest.mark.parametrize("norm", NORMS)
@given(x=images, epsilon=radii)
def test_projection_does_not_move_points_inside(norm, x, epsilon):
    threat, x = ThreatModel(norm, epsilon), torch.from_numpy(x)
    inner = threat.random_start(x, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(threat.project(inner, x), inner, atol=SLACK)


def test_linf_projection_is_the_nearest_point_by_hand():
    x = torch.tensor([[0.5, 0.05, 0.95]])
    points = torch.tensor([[0.9, -3.0, 0.96]])
    assert torch.allclose(ThreatModel("linf", 0.1).project(points, x), torch.tensor([[0.6, 0.0, 0.96]]))


def test_l2_projection_scales_the_offset():
    x = torch.full((1, 2), 0.5)
    points = torch.tensor([[0.5 + 0.3, 0.5 + 0.4]])
    assert torch.allclose(ThreatModel("l2", 0.25).project(points, x), torch.tensor([[0.65, 0.7]]))


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_l2_step_has_its_length_at_any_scale_of_the_gradient(scale):
    x = torch.zeros(2, 3)
    gradient = torch.tensor([[3.0, 0.0, 4.0], [1.0, 1.0, 1.0]]) * scale
    moved = ThreatModel("l2", 1.0).ascend(x, gradient, step=0.1)
    assert torch.allclose(moved.norm(dim=1), torch.tensor([0.1, 0.1]))
    assert torch.allclose(moved[0], torch.tensor([0.06, 0.0, 0.08]))


@pytest.mark.parametrize("norm", NORMS)
def test_zero_and_nan_gradients_leave_points_unchanged(norm):
    x = torch.rand(2, 3)
    gradient = torch.stack([torch.zeros(3), torch.full((3,), torch.nan)])
    assert torch.equal(ThreatModel(norm, 0.5).ascend(x, gradient, step=0.1), x)


def test_l2_start_fills_the_ball_uniformly():
    x = torch.full((20_000, 2), 0.5)
    threat = ThreatModel("l2", 0.4)
    distance = threat.distance(threat.random_start(x, generator=torch.Generator().manual_seed(0)), x)
    # In two dimensions half of the area lies beyond 1 / sqrt(2) of the radius; 4 standard errors.
    assert abs((distance > 0.4 / 2**0.5).float().mean() - 0.5) < 4 * 0.5 / 20_000**0.5
