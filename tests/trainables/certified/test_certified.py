"""Certified bounds are sound on random networks, and the check finds bounds that are not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.networks.certified import BUDGETS, logit_bounds, random_images, random_net
from torch import nn

from trainables.attacks.base import is_correct, run_attack
from trainables.attacks.pgd import pgd
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.certified.certificate import certify
from trainables.data.digits import digits
from trainables.evaluation.lipschitz import local_lipschitz
from trainables.models import build_model
from trainables.models.inputs import to_unit
from trainables.seeding import seeded


def radius(seed: int) -> ThreatModel:
    epsilon = (0.0, 0.003, 0.05, 0.2, 1.0)[seed % 5]
    return ThreatModel("linf", epsilon) if seed % 3 else ThreatModel("l2", 2 * epsilon)


def violations(seed: int, certificate, bounds) -> list[str]:
    """Return the violations that random points, corners, PGD and the Lipschitz search find on three images."""
    model, images, threat = random_net(seed), random_images(3, seed), radius(seed)
    labels = model(images).argmax(1)
    labels[2] = (labels[2] + 1) % model(images).shape[1]
    draws = torch.Generator().manual_seed(seed)
    points = [threat.random_start(images, generator=draws) for _ in range(4)]
    points += [threat.project(images + 9 * torch.randn(images.shape, generator=draws).sign(), images) for _ in range(4)]
    robust, attacked = run_attack(pgd, model, images, labels, ascent=Ascent(threat, steps=2, restarts=1), seed=seed)
    points.append(attacked)
    proved = certificate(model, images, labels, threat)
    lower, upper = bounds(model, images, threat) if seed % 4 == 0 else (None, None)
    kinds = []
    if (proved.certified_correct & ~robust).any():
        kinds.append("certified though attacked")
    if threat.epsilon > 0:
        searched = local_lipschitz(model, images, labels, ascent=Ascent(threat, steps=1, restarts=2), seed=seed)
        if (searched.raw > proved.lipschitz_upper).any():
            kinds.append("search above the Lipschitz bound")
        points.append(searched.points)
    together, exact = torch.cat(points).double(), model.double()
    distance = threat.distance(together, images.double().repeat(len(points), 1, 1, 1)).reshape(-1, 3)
    centre = exact(images.double())
    logits = exact(together).reshape(-1, *centre.shape)
    others = logits.masked_fill(nn.functional.one_hot(labels, centre.shape[1]).bool(), -torch.inf)
    own = logits[:, torch.arange(3), labels]
    if (own - others.amax(2) < proved.margin).any():
        kinds.append("margin below its bound")
    if lower is not None and ((logits < lower) | (logits > upper)).any():
        kinds.append("logits outside their bounds")
    rise = (logits - centre).norm(p=1 if threat.norm == "linf" else 2, dim=2)
    if (rise > proved.lipschitz_upper * distance + 1e-14).any():
        kinds.append("point above the Lipschitz bound")
    return kinds


def as_computed(budget: float):
    return (
        lambda model, x, y, threat: certify(model, x, y, threat=threat, budget=budget),
        lambda model, x, threat: logit_bounds(model, x, threat, budget=budget),
    )


def violating(seeds: range) -> dict[int, list[str]]:
    by_seed = {seed: violations(seed, *as_computed(BUDGETS[seed % 7 > 0])) for seed in seeds}
    return {seed: kinds for seed, kinds in by_seed.items() if kinds}


@pytest.mark.long
@pytest.mark.parametrize("block", range(4))
def test_no_bound_is_violated_on_random_nets(block):
    """Of 420, in which every architecture meets every radius in both norms, and both budgets at every radius."""
    assert not violating(range(105 * block, 105 * (block + 1)))


@pytest.mark.chaos  # for its length
def test_no_bound_is_violated_on_a_thousand_random_nets():
    assert not violating(range(420, 1000))


@pytest.mark.long
def test_the_check_finds_bounds_that_are_slightly_too_tight():
    """The check finds violations of every kind in bounds shrunk by five per cent, or computed for half the radius."""

    def shrunk(model, x, y, threat):
        proved = certify(model, x, y, threat=threat)
        return dataclasses.replace(
            proved, lipschitz_upper=0.95 * proved.lipschitz_upper, margin=proved.margin + 0.05 * proved.margin.abs()
        )

    def at_half(model, x, y, threat):
        return certify(model, x, y, threat=ThreatModel(threat.norm, threat.epsilon / 2))

    def bounds_at_half(model, x, threat):
        return logit_bounds(model, x, ThreatModel(threat.norm, threat.epsilon / 2))

    tight = [kind for seed in range(40) for kind in violations(seed, shrunk, as_computed(1e8)[1])]
    assert {"search above the Lipschitz bound", "point above the Lipschitz bound", "margin below its bound"} <= {*tight}
    narrow = [kind for seed in range(40) for kind in violations(seed, at_half, bounds_at_half)]
    assert {"certified though attacked", "logits outside their bounds"} <= {*narrow}


@pytest.mark.parametrize(("name", "side"), [("mlp", 8), ("cnn_small", 8), ("cnn1", 28), ("cnn2", 28)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bounds_of_the_projects_networks_hold_and_are_finite(name, side, norm):
    with seeded(0):
        model = build_model(name, image_shape=(1, side, side), num_classes=10, dropout=0.3, mean=[0.3], std=[0.3])
        last = model.network[-1]
        nn.init.normal_(last.weight, std=0.1)
    model.eval()
    images = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    labels, threat = model(images).argmax(1), ThreatModel(norm, 0.02)
    proved = certify(model, images, labels, threat=threat, budget=1e7)
    searched = local_lipschitz(model, images, labels, ascent=Ascent(threat, steps=5, restarts=2), seed=0).raw
    assert (searched <= proved.lipschitz_upper).all()
    assert proved.lipschitz_upper.isfinite().all()
    lower, upper = logit_bounds(model, images, threat, budget=1e7)
    for seed in range(3):
        logits = model(threat.random_start(images, generator=torch.Generator().manual_seed(seed)))
        assert ((lower <= logits) & (logits <= upper)).all()


def test_certified_is_below_attacked_is_below_clean_on_trained_digits(trained_on_digits):
    model, images, labels = trained_on_digits
    with torch.no_grad():
        clean = is_correct(model(images), labels)
    shares = []
    for epsilon in (0.01, 0.03):
        threat = ThreatModel("linf", epsilon)
        robust, _ = run_attack(pgd, model, images, labels, ascent=Ascent(threat, steps=10, restarts=2), seed=0)
        proved = certify(model, images, labels, threat=threat)
        searched = local_lipschitz(model, images, labels, ascent=Ascent(threat, steps=20, restarts=4), seed=0).raw
        assert not (proved.certified_correct & ~robust).any()
        assert not (robust & ~clean).any()
        assert (searched <= proved.lipschitz_upper).all()
        shares.append(
            (proved.certified_correct.double().mean().item(), (proved.lipschitz_upper / searched).median().item())
        )
    # The bounds are not vacuous: most images are certified at the small radius, and the interval is narrow.
    assert shares[0][0] > 0.8
    assert shares[0][1] < 1.5


@pytest.fixture(scope="module")
def trained_on_digits():
    """A small network trained on the digits for a few seconds, and 40 images that it was not trained on."""
    raw = digits(Path())
    images, labels = to_unit(torch.from_numpy(raw.train_images), scale=raw.scale), torch.from_numpy(raw.train_labels)
    with seeded(0):
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
        )
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(100):
            loss = nn.functional.cross_entropy(model(images[:-40]), labels[:-40])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval(), images[-40:], labels[-40:]
