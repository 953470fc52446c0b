"""Each loss of the extensions against its formula written out, value and gradient, in float64 and both norms."""

from __future__ import annotations

import pytest
import torch
from helpers.networks.steps import make_step, network, run
from torch import Tensor, nn

from trainables.attacks.losses import boosted_cross_entropy, squared_error
from trainables.attacks.threat import ThreatModel
from trainables.methods.base import build_method
from trainables.methods.extensions.fat import Fat
from trainables.seeding import generator, seeded

EPSILON, STEPS = 0.1, 5
NORMS = ("linf", "l2")


def smooth() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def images() -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


Y = torch.tensor([0, 1, 2, 0, 1, 2])


def step_of(model, method, norm, **changes):
    return make_step(model, method, norm=norm, epsilon=EPSILON, x=images(), attack_steps=STEPS, **changes)


def starts(norm: str, radius: float = EPSILON, draws: torch.Generator | None = None) -> Tensor:
    """Return the random starts that a step's first search draws."""
    return ThreatModel(norm, radius).random_start(images(), generator=draws or generator(0, "craft"))


def up(model, points: Tensor, objective, norm: str, length: float) -> Tensor:
    """Return one step of steepest ascent, without projection."""
    points = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(model(points)).sum(), points)
    flat = slope.flatten(1)
    direction = flat.sign() if norm == "linf" else flat / flat.pow(2).sum(1, keepdim=True).sqrt()
    return points.detach() + length * direction.reshape(points.shape)


def into_ball(points: Tensor, x: Tensor, norm: str) -> Tensor:
    delta = points - x
    if norm == "linf":
        delta = delta.clamp(-EPSILON, EPSILON)
    else:
        size = delta.flatten(1).pow(2).sum(1).sqrt()
        delta = delta * (EPSILON / size).clamp(max=1).reshape(-1, 1, 1, 1)
    return (x + delta).clamp(0, 1)


def pgd(model, objective, norm: str, start: Tensor, *, steps: int = STEPS) -> Tensor:
    """Return the last iterate of projected ascent, written out."""
    points, length = start, (2 if norm == "linf" else 4) * EPSILON / STEPS
    for _ in range(steps):
        points = into_ball(up(model, points, objective, norm, length), images()[: len(points)], norm)
    return points


def ce(logits: Tensor) -> Tensor:
    return -(logits.exp() / logits.exp().sum(1, keepdim=True)).log()[range(6), Y]


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(1)


def assert_equal_losses(model, terms, expected: Tensor) -> None:
    assert terms.total.dtype == torch.float64
    torch.testing.assert_close(terms.total, expected, rtol=1e-9, atol=1e-12)
    ours, theirs = (torch.autograd.grad(loss.mean(), list(model.parameters())) for loss in (terms.total, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("form", ["raw", "scale_free"])
@pytest.mark.parametrize("on", ["clean", "adversarial"])
def test_lipschitz_penalty(norm, form, on):
    model, x, draws = smooth(), images(), generator(0, "craft")
    method = build_method("lipschitz_penalty", {"lambda": 0.2, "form": form, "on": on})
    terms = method(step_of(model, method, norm))
    order = 1 if norm == "linf" else 2

    def centred(logits: Tensor) -> Tensor:
        return logits - logits.mean(1, keepdim=True) if form == "scale_free" else logits

    of_ce = pgd(model, ce, norm, starts(norm, draws=draws)) if on == "adversarial" else x
    fixed = centred(model(x)).detach()
    far = pgd(model, lambda z: (centred(z) - fixed).norm(p=order, dim=1), norm, starts(norm, draws=draws))
    z, moved = model(x), model(far)
    size = (far - x).flatten(1).norm(p=float("inf") if norm == "linf" else 2, dim=1)
    ratio = (centred(moved) - centred(z)).norm(p=order, dim=1) / size
    if form == "scale_free":
        gaps = [abs(z[i, Y[i]] - z[i, k]) for i in range(6) for k in range(3) if k != Y[i]]
        ratio = ratio / (sum(gaps) / len(gaps))
    assert set(terms.parts) == {on, "lipschitz"}
    assert_equal_losses(model, terms, ce(model(of_ce)) + 0.2 * ratio)


def test_the_scale_free_penalty_does_not_reward_smaller_logits():
    """Its derivative by a factor of all logits is 0, that of the raw one is the penalty itself."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.factor = smooth(), nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * self.inner(x)

    for form in ("raw", "scale_free"):
        model, method = Scaled(), build_method("lipschitz_penalty", {"form": form})
        penalty = method(step_of(model, method, "linf")).parts["lipschitz"].mean()
        (derivative,) = torch.autograd.grad(penalty, model.factor)
        torch.testing.assert_close(derivative, penalty.detach() if form == "raw" else torch.zeros_like(penalty))


@pytest.mark.parametrize("norm", NORMS)
def test_hat(norm):
    model, x = smooth(), images()
    method = build_method("hat", {"beta": 1.5, "gamma": 0.7, "h": 3.0})
    step = step_of(model, method, norm)
    step.helper.double()
    terms = method(step)
    fixed = model(x).softmax(1).detach()
    x_adv = pgd(model, lambda z: kl(fixed, z.softmax(1)), norm, starts(norm))
    classes = step.helper(x_adv).argmax(1)
    assert classes.tolist() != Y.tolist()
    assert (x + 3 * (x_adv - x)).max() > 1
    p, q = model(x).softmax(1), model(x_adv).softmax(1)
    helped = -model(x + 3 * (x_adv - x)).softmax(1)[range(6), classes].log()
    assert_equal_losses(model, terms, ce(model(x)) + 1.5 * kl(p, q) + 0.7 * helped)


@pytest.mark.parametrize("norm", NORMS)
def test_mart(norm):
    model, x = smooth(), images()
    method = build_method("mart", {"beta": 2.5})
    terms = method(step_of(model, method, norm))
    x_adv = pgd(model, ce, norm, starts(norm))
    p, q = model(x).softmax(1), model(x_adv).softmax(1)
    wrong = torch.stack([max(q[i, k] for k in range(3) if k != Y[i]) for i in range(6)])
    boosted = -q[range(6), Y].log() - (1 - wrong).log()
    assert_equal_losses(model, terms, boosted + 2.5 * kl(p, q) * (1 - p[range(6), Y]))


@pytest.mark.parametrize("norm", NORMS)
def test_score(norm):
    model, x = smooth(), images()
    method = build_method("score", {"beta": 3.0, "smoothing": 0.2})
    terms = method(step_of(model, method, norm))
    fixed = model(x).softmax(1).detach()
    x_adv = pgd(model, lambda z: (z.softmax(1) - fixed).pow(2).sum(1), norm, starts(norm))
    target = torch.tensor([[0.8 if k == y else 0.1 for k in range(3)] for y in Y.tolist()], dtype=torch.float64)
    p, q = model(x).softmax(1), model(x_adv).softmax(1)
    assert_equal_losses(model, terms, (p - target).pow(2).sum(1) + 3 * (q - p).pow(2).sum(1))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("k", [0.0, 1.5])
def test_n_fgsm(norm, k):
    model = smooth()
    method = build_method("n_fgsm", {"k": k})
    terms = method(step_of(model, method, norm))
    start = starts(norm, k * EPSILON) if k else images()
    x_adv = up(model, start, ce, norm, EPSILON).clamp(0, 1)
    assert_equal_losses(model, terms, ce(model(x_adv)))
    distance = ThreatModel(norm, EPSILON).distance(x_adv, images())
    assert (distance <= (1 + k) * EPSILON + 1e-12).all()
    assert (distance > 1.05 * EPSILON).any() == (k > 0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bn", ["eval", "train"])
@pytest.mark.parametrize("tau", [0, 1, 3, 9])
def test_fat(norm, bn, tau):
    model, start = near_the_boundary(), starts(norm)
    step = step_of(model, Fat(tau=tau), norm, bn=bn)
    terms = Fat(tau=tau)(step)
    points, taken = [], []
    for i in range(6):
        point, left, steps = start[i : i + 1], tau, 0
        while steps < STEPS:
            if model(point).argmax(1) != Y[i]:
                if left == 0:
                    break
                left -= 1
            length = (2 if norm == "linf" else 4) * EPSILON / STEPS
            moved = up(model, point, lambda z, y=Y[i]: -z.log_softmax(1)[:, y], norm, length)
            point = into_ball(moved, images()[i : i + 1], norm)
            steps += 1
        points.append(point)
        taken.append(steps)
    if tau == 0:
        assert len(set(taken)) > 2
    if tau == 9:
        assert set(taken) == {STEPS}
    torch.testing.assert_close(step.found[0], torch.cat(points), rtol=1e-9, atol=1e-12)
    assert_equal_losses(model, terms, ce(model(torch.cat(points))))


def near_the_boundary() -> nn.Module:
    """Return the smooth network trained on most of the images, so that they are fooled after different steps."""
    model = smooth()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (ce(model(images())) * torch.tensor([1, 1, 0.2, 1, 2, 1])).mean().backward()
        optimizer.step()
    return model


def test_images_that_have_stopped_cost_no_gradients():
    counted = []
    model = near_the_boundary()
    model.register_forward_hook(lambda _, inputs, __: counted.append(len(inputs[0])))
    step = step_of(model, Fat(tau=0), "linf")
    Fat(tau=0)(step)
    *crafting, training = counted
    assert training == 6
    assert crafting == sorted(crafting, reverse=True)
    assert crafting[-1] < 6


def test_boosted_cross_entropy_is_finite_for_certain_networks():
    logits = torch.tensor([[200.0, 0.0, -300.0], [0.0, 200.0, -300.0]], requires_grad=True)
    loss = boosted_cross_entropy(logits, torch.tensor([0, 0]))
    assert loss.tolist() == pytest.approx([0.0, 400.0], abs=1e-4)
    loss.sum().backward()
    assert logits.grad.isfinite().all()


def test_squared_error_of_a_perfect_prediction_is_that_of_the_smoothing():
    logits = torch.tensor([[200.0, 0.0, 0.0]])
    assert squared_error(logits, torch.tensor([0]), smoothing=0.0).item() == 0
    assert squared_error(logits, torch.tensor([0]), smoothing=0.3).item() == pytest.approx(0.3**2 + 2 * 0.15**2)


@pytest.mark.parametrize("method", ["hat", "score"])
def test_parts_of_weight_zero_are_not_computed(method):
    passes = []
    model = network()
    model.register_forward_hook(lambda *_: passes.append(1))
    zero = {"hat": {"beta": 0.0, "gamma": 0.0}, "score": {"beta": 0.0}}[method]
    run(build_method(method, zero), model)
    run(build_method(method, {}), model, epsilon=0.0)
    assert len(passes) == 2


def test_the_penalty_sees_no_change_in_dropout_noise():
    """With x' close to x the change vanishes only if both passes share mask and batch statistics."""
    method = build_method("lipschitz_penalty", {"lambda": 1.0})
    parts = run(method, network(), epsilon=1e-4).parts["lipschitz"] * 1e-4
    assert parts.max() < 1e-2
    model = network()
    with seeded(0, "dropout"):
        apart = model(images().float()) - model(images().float())
    assert apart.abs().sum(1).min() > 0.1
