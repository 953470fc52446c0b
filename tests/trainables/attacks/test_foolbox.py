"""PGD against foolbox's: example by example without a random start, within noise with one.

Skipped if foolbox is not installed, as it is not a dependency: `pip install foolbox` in a separate environment.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks.trained import trained_digits

from trainables.attacks.base import is_correct
from trainables.attacks.losses import cross_entropy_against
from trainables.attacks.pgd import constant_steps, craft
from trainables.attacks.threat import ThreatModel

foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")

STEPS = 20
CASES = [(robust, norm, epsilon) for robust in (True, False) for norm, epsilon in (("linf", 0.08), ("l2", 0.4))]


def last_iterates(robust: bool, norm: str, epsilon: float, *, seeds: list[int | None]):
    """Return whether our and foolbox's last iterates are correct, (seeds, n) each, and their largest difference.

    Args:
        robust: Whether the network is trained adversarially.
        norm: Of the threat model.
        epsilon: Its radius.
        seeds: Seeds of the random starts; None starts from the image.
    """
    model, x, y = trained_digits(robust=robust)
    threat = ThreatModel(norm, epsilon)
    attacks = foolbox.attacks
    kind = attacks.LinfProjectedGradientDescentAttack if norm == "linf" else attacks.L2ProjectedGradientDescentAttack
    theirs_model = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    ours, theirs, gap = [], [], 0.0
    for seed in seeds:
        draws = None if seed is None else torch.Generator().manual_seed(seed)
        mine = craft(model, x, cross_entropy_against(y), threat=threat, steps=STEPS, generator=draws)
        attack = kind(abs_stepsize=constant_steps(threat, STEPS)[0], steps=STEPS, random_start=seed is not None)
        with torch.random.fork_rng():
            # A different stream, as both would otherwise start at the same points.
            torch.manual_seed(1000 + (seed or 0))
            (other,), _, _ = attack(theirs_model, x, y, epsilons=[epsilon])
        with torch.no_grad():
            ours.append(is_correct(model(mine), y))
            theirs.append(is_correct(model(other), y))
        gap = max(gap, float((mine - other).abs().max()))
    return torch.stack(ours).double(), torch.stack(theirs).double(), gap


@pytest.mark.parametrize(("robust", "norm", "epsilon"), CASES)
def test_without_random_start_at_most_one_example_in_a_thousand_differs(robust, norm, epsilon, record_property):
    ours, theirs, gap = last_iterates(robust, norm, epsilon, seeds=[None])
    differ = int((ours != theirs).sum())
    record_property(
        "ours, theirs, differing, largest distance", (float(ours.mean()), float(theirs.mean()), differ, gap)
    )
    assert 0.05 < ours.mean() < 0.99
    assert differ <= ours.numel() / 1000


@pytest.mark.parametrize(("robust", "norm", "epsilon"), CASES)
def test_with_random_start_the_paired_difference_is_within_its_interval(robust, norm, epsilon, record_property):
    ours, theirs, _ = last_iterates(robust, norm, epsilon, seeds=list(range(5)))
    difference = (ours.mean(0) - theirs.mean(0)).numpy()
    half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
    record_property("ours, theirs, half interval", (float(ours.mean()), float(theirs.mean()), float(half)))
    assert abs(difference.mean()) <= max(half, 1e-3)
