"""Distances to adversarial examples against closed forms, a grid, another library's attack and the theorem."""

from __future__ import annotations

import pytest
import torch
from helpers.networks.linear_attacks import DUAL, linear_problem
from helpers.networks.toy_problems import blobs, run, tiny_spec
from helpers.networks.trained import trained_digits
from torch import Tensor, nn

from trainables.attacks.base import is_correct, load_attack, run_attack
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.adversarial_distances import ROUNDS, AdversarialDistances, adversarial_distances
from trainables.evaluation.trial import measured_part

CPU = torch.device("cpu")


def distances(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    cap: float,
    attack: str = "reachable_targets",
    steps: int = 10,
    restarts: int = 1,
) -> AdversarialDistances:
    ascent = Ascent(ThreatModel(norm, cap), steps, restarts)  # type: ignore[arg-type]
    found = adversarial_distances(model, x, y, attack=attack, ascent=ascent, seed=3)
    reached = found.distance.isfinite() & (found.distance > 0)
    # what is reported is the distance of a point that does fool the network, inside the box
    at = ThreatModel(norm, cap).distance(found.points.double(), x.double())  # type: ignore[arg-type]
    assert torch.equal(at[reached], found.distance[reached])
    assert not is_correct(model(found.points), y)[reached].any()
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    return found


@pytest.mark.parametrize(("norm", "classes", "cap"), [("linf", 2, 0.06), ("linf", 4, 0.04), ("l2", 4, 0.1)])
def test_equals_the_distance_to_a_linear_networks_nearest_boundary(norm, classes, cap):
    model, x, y, weights = linear_problem(classes, seed=1, n=10)
    logits = model.double()(x.double())
    model.float()
    slopes = (weights[y][:, None] - weights[None]).norm(p=DUAL[norm], dim=2)
    margins = logits.gather(1, y[:, None]) - logits
    exact = (margins / slopes).nan_to_num(torch.inf).amin(1)
    # the box does not bind within the cap
    found = distances(model, x, y, norm=norm, cap=cap).distance
    inside = exact < 0.95 * cap
    assert 2 < inside.sum() < 10
    assert (found >= exact * (1 - 1e-5) - 1e-6).all()
    short = 1.003 if norm == "linf" else 1.02  # in l2 the attack's direction is off by a few degrees
    assert (found[inside] <= short * exact[inside] + cap / 2**ROUNDS).all()
    assert found[exact > cap].isinf().all()


def test_agrees_with_a_grid_of_the_whole_square():
    draws = torch.Generator().manual_seed(0)
    bends = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
    with torch.no_grad():
        for layer in (bends[0], bends[2]):
            layer.weight.copy_(3 * torch.randn(layer.weight.shape, generator=draws))
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=draws))
    x = torch.rand(24, 2, generator=draws)
    y = bends(x).argmax(1)
    side = torch.linspace(0, 1, 401)
    grid = torch.cartesian_prod(side, side)
    classes = bends(grid).argmax(1)
    apart = torch.cdist(x.double(), grid.double(), p=2)
    exact = apart.masked_fill(classes[None] == y[:, None], torch.inf).amin(1)
    found = distances(bends, x, y, norm="l2", cap=0.6, attack="margin", restarts=2).distance
    near = exact < 0.55
    assert near.sum() > 12
    spacing = 1 / 400
    assert (found >= exact - 2 * spacing).all()
    # a boundary with bends: the attack may miss the nearest piece of it
    assert (found[near] <= 1.05 * exact[near] + spacing).double().mean() > 0.8


def _blob_network() -> tuple[nn.Module, Tensor, Tensor]:
    trained = run(tiny_spec(epochs=3))
    data = blobs()
    return trained.model.eval(), *measured_part(
        data.val, 40, scale=data.scale, layout=torch.contiguous_format, device=CPU
    )


def test_what_the_attack_fools_at_a_quarter_of_the_cap_is_found_within_it():
    """A quarter of the cap is a study's own radius: its robust accuracy is known, and no distance contradicts it."""
    model, x, y = _blob_network()
    for epsilon in (0.05, 0.1, 0.15):
        robust = attack_at(model, x, y, epsilon)
        assert 0 < robust.sum() < len(x)
        within = distances(model, x, y, norm="linf", cap=4 * epsilon).distance <= epsilon * (1 + 1e-6)
        assert within[~robust].all()


def attack_at(model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    ascent = Ascent(ThreatModel("linf", epsilon), 10, 1)
    return run_attack(load_attack("reachable_targets"), model, x, y, ascent=ascent, seed=0, flags=set())[0]


@pytest.mark.long
@pytest.mark.parametrize("network", ["natural digits", "robust digits", "blobs"])
def test_finds_points_as_near_as_fab_of_autoattacks_authors(network):
    """FAB (Croce & Hein 2020, arXiv 1907.02044) minimises the distance itself, by projections on the boundary."""
    fab_pt = pytest.importorskip("pyautoattack.fab_pt")
    model, x, y = _blob_network() if network == "blobs" else trained_digits(robust=network == "robust digits")
    x, y, cap = x[:6].contiguous(), y[:6], 0.6
    found = distances(model, x, y, norm="linf", cap=cap, steps=7).distance
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.requires_grad_(requires_grad=False)
    with torch.random.fork_rng():
        points = fab_pt.FABAttack_PT(model, norm="Linf", n_iter=50, eps=cap, device=CPU).perturb(x, y)
    for parameter in parameters:
        parameter.requires_grad_(requires_grad=True)
    peer = ThreatModel("linf", cap).distance(points.double(), x.double())
    peer[is_correct(model(points), y)] = torch.inf
    assert torch.equal(found == 0, peer == 0)
    both = peer.isfinite() & (peer > 0)
    assert both.sum() > 4
    assert found[both].isfinite().all()
    ratio = found[both] / peer[both]
    assert 0.95 < ratio.median() < 1.03
    assert (ratio < 1.1).double().mean() > 0.8


class NearestClass(nn.Module):
    """The theorem's classifier: the class of the nearest training point; its logits are minus the distances."""

    def __init__(self, points: Tensor, labels: Tensor, *, p: float) -> None:
        super().__init__()
        self.points, self.labels, self.p = points, labels, p

    def forward(self, x: Tensor) -> Tensor:
        apart = (x[:, None] - self.points[None]).flatten(2).norm(p=self.p, dim=2)
        return -torch.stack([apart[:, self.labels == label].amin(1) for label in self.labels.unique()], 1)


@pytest.mark.parametrize(("norm", "p"), [("linf", torch.inf), ("l2", 2.0)])
def test_the_theorems_classifier_is_between_half_and_the_whole_distance_to_another_class(norm, p):
    """With d the distance from a training point to the nearest one of another class.

    Within d / 2 no point is misclassified, by the triangle inequality, and the other class's point, at d, is one. In
    between it depends on the other training points, save for the closest pair of all: there it is d / 2 exactly.
    """
    draws = torch.Generator().manual_seed(4)
    points, labels = torch.rand(24, 3, generator=draws), torch.arange(24) % 2
    apart = torch.cdist(points.double(), points.double(), p=p)
    other = apart.masked_fill(labels[:, None] == labels[None], torch.inf).amin(1)
    model = NearestClass(points, labels, p=p)
    found = distances(model, points, labels, norm=norm, cap=0.25, attack="pgd", steps=10).distance
    assert (found >= other / 2 - 1e-6).all()
    assert (found <= other).double().mean() > 0.9
    assert ((other / 2 + 1e-3 < found) & (found < other)).any()  # "never above d / 2" does not hold
    # to two of the bisection's radii, for an attack on a function without a gradient at its ties
    assert found[other == other.min()].min() <= other.min() / 2 + 2 * 0.25 / 2**ROUNDS


def test_misclassified_images_are_at_0_and_those_out_of_reach_at_infinity():
    model, x, y, _ = linear_problem(2, seed=2, n=30)
    y[:5] = 1 - y[:5]
    found = distances(model, x, y, norm="linf", cap=1e-6)
    assert (found.distance[:5] == 0).all()
    assert found.distance[5:].isinf().all()
    assert torch.equal(found.points, x)
    assert distances(model, x, y, norm="linf", cap=0.0).distance[5:].isinf().all()


def test_repeats_and_keeps_the_mode_and_tells_how_far_it_is():
    model, x, y, _ = linear_problem(3, seed=2, n=20)
    model.train()
    seen = []
    ascent = Ascent(ThreatModel("linf", 0.3), 3, 1)
    options = {"attack": "pgd", "ascent": ascent, "seed": 5}
    first = adversarial_distances(model, x, y, report=lambda *values: seen.append(values), **options)
    assert torch.equal(adversarial_distances(model, x, y, **options).distance, first.distance)
    assert model.training
    assert seen[0] == ("adversarial distance", 0, ROUNDS * 20)
    assert seen[-1] == ("adversarial distance", ROUNDS * 20, ROUNDS * 20)


def test_a_point_nearer_than_where_the_attack_failed_counts_and_is_searched_below(monkeypatch):
    """An attack that fails at every second radius: bisection alone would stop at the radius above."""
    model, x, y, _ = linear_problem(2, seed=7, n=5)
    import trainables.evaluation.adversarial_distances as module

    calls = []
    load = module.load_attack

    def moody(name):
        attack = load(name)

        def at_times(network, x, y, /, *, ascent, generator):
            calls.append(ascent.threat.epsilon)
            return x if len(calls) == 1 else attack(network, x, y, ascent=ascent, generator=generator)

        return at_times

    whole = distances(model, x, y, norm="linf", cap=0.3, attack="pgd").distance
    monkeypatch.setattr(module, "load_attack", moody)
    found = distances(model, x, y, norm="linf", cap=0.3, attack="pgd").distance
    near = whole < 0.14
    assert near.any()
    assert found[near] == pytest.approx(whole[near], rel=0.05)
