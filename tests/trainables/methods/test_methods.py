"""The contract of every registered method, and the methods of the literature.

The contract runs over the registry, so registering a new method is enough to test it.
"""

from __future__ import annotations

import dataclasses
import math
import pkgutil
from pathlib import Path

import pytest
import torch
from helpers.networks.steps import make_step, network, run
from torch import nn

import trainables.methods
from trainables.attacks.losses import cross_entropy, kl_divergence
from trainables.methods import METHODS, PAPER_METHODS
from trainables.methods.base import Method, build_method, check_radius
from trainables.seeding import seeded
from trainables.settings import Setting, settings_of, values_of

NORMS = ("linf", "l2")


@pytest.fixture(params=sorted(METHODS))
def name(request) -> str:
    return request.param


class TestContract:
    """The contract of every method, at its defaults, with batch norm and dropout on."""

    @pytest.fixture
    def method(self, name) -> Method:
        return build_method(name, {})

    @pytest.mark.parametrize("norm", NORMS)
    def test_total_is_the_weighted_sum_of_finite_parts_per_example(self, method, norm):
        terms = run(method, network(), norm=norm)
        assert terms.parts
        assert set(terms.weights) <= set(terms.parts)
        assert all(math.isfinite(weight) and weight > 0 for weight in terms.weights.values())
        for values in terms.parts.values():
            assert values.shape == (6,)
            assert values.isfinite().all()
            assert (values >= -1e-6).all()
        total = sum(terms.weights.get(part, 1.0) * values for part, values in terms.parts.items())
        assert torch.allclose(terms.total, total)

    @pytest.mark.parametrize("norm", NORMS)
    def test_gradients_reach_every_parameter_and_are_finite(self, method, norm):
        model = network()
        run(method, model, norm=norm).total.mean().backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
        assert any(parameter.grad.abs().sum() > 0 for parameter in model.parameters())

    def test_inputs_modes_and_requires_grad_are_unchanged(self, method):
        model = network()
        model[2].eval()
        step = make_step(model, method)
        x, y = step.x.clone(), step.y.clone()
        modes = [module.training for module in model.modules()]
        method(step)
        assert torch.equal(step.x, x)
        assert torch.equal(step.y, y)
        assert not step.x.requires_grad
        assert [module.training for module in model.modules()] == modes
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
        assert all(module.track_running_stats for module in model.modules() if isinstance(module, nn.BatchNorm2d))

    def test_running_statistics_are_updated_once_per_step(self, method):
        model = network()
        run(method, model)
        assert model[1].num_batches_tracked == 1

    def test_same_generators_give_the_same_loss(self, method):
        first, second = (run(method, network()) for _ in range(2))
        assert torch.equal(first.total, second.total)

    def test_crafting_does_not_advance_the_dropout_stream(self, method):
        states = []
        for dropout in ("eval", "train"):
            with seeded(0, "dropout"):
                method(make_step(network(), method, dropout=dropout))
                states.append(torch.get_rng_state())
        assert torch.equal(*states)

    def test_radius_affects_the_loss_if_and_only_if_the_method_attacks(self, method):
        small, large = (run(method, network(), epsilon=e).total.mean() for e in (0.01, 0.3))
        if type(method).__name__ == "LipschitzPenalty":  # a slope, which may be smaller at a distance
            assert large != small
        else:
            assert large > small if method.attacks else large == small

    def test_settings_are_declared(self, name):
        cls = METHODS.load(name)
        assert dataclasses.is_dataclass(cls)
        assert cls.__dataclass_params__.frozen
        assert isinstance(cls.attacks, bool)
        assert cls.__doc__
        declared = settings_of(cls)
        assert len(declared) == len(dataclasses.fields(cls))
        for setting in declared.values():
            assert setting.doc
            assert setting.problem(setting.default) is None
            if setting.search:
                low, high = setting.search
                assert setting.low <= low < high <= setting.high
                assert low > 0 or not setting.log
        assert values_of(cls()) == {key: setting.default for key, setting in declared.items()}

    def test_radius_is_required_if_and_only_if_the_method_attacks(self, name, method):
        wrong, right = (None, 0.1) if method.attacks else (0.1, None)
        check_radius(name, method, right)
        with pytest.raises(ValueError, match=f"`train_epsilon` must be .* for method '{name}', got"):
            check_radius(name, method, wrong)


def test_every_file_of_the_package_is_registered():
    found = pkgutil.walk_packages(trainables.methods.__path__, "trainables.methods.")
    files = {module.name for module in found if not module.ispkg} - {"trainables.methods.base"}
    assert {target.partition(":")[0] for target in METHODS.values()} == files


def test_every_method_is_on_its_page():
    page = (Path(trainables.methods.__path__[0]).parents[1] / "docs/methods.md").read_text(encoding="utf-8")
    assert {name for name in METHODS if f"\n| `{name}` |" in page} == set(METHODS)


def test_the_page_has_every_setting_of_the_extensions():
    page = (Path(trainables.methods.__path__[0]).parents[1] / "docs/methods.md").read_text(encoding="utf-8")
    lines = [
        _line(name, setting)
        for name in METHODS
        if name not in PAPER_METHODS
        for setting in settings_of(METHODS.load(name)).values()
    ]
    assert "\n".join(["|---|---|---|---|---|", *lines, ""]) in page


def _line(method: str, setting: Setting) -> str:
    bounds = ", ".join(setting.choices) if setting.choices else f"[{setting.low:g}, {setting.high:g}]"
    searched = "" if setting.search is None else f"[{setting.search[0]:g}, {setting.search[1]:g}]{' log' * setting.log}"
    meaning = setting.doc + (f" ({setting.unit})" if setting.unit else "")
    return f"| `{method}.{setting.name}` | {setting.default} | {bounds} | {searched} | {meaning} |"


def test_unknown_or_illegal_parameters_are_refused():
    with pytest.raises(
        ValueError, match=r"method 'trades' has no parameter `betta` \(did you mean beta\?\); it has: b"
    ):
        build_method("trades", {"betta": 1})
    with pytest.raises(ValueError, match="method 'natural' has no parameter `beta`; it has: none"):
        build_method("natural", {"beta": 1.0})
    with pytest.raises(ValueError, match=r"`beta` must be in \[0, 1000\], got -1"):
        build_method("trades", {"beta": -1.0})


def test_trades_by_hand_at_a_fixed_adversarial_point():
    """Without batch norm and dropout: CE(x) + beta KL(f(x) || f(x')), both sides differentiated."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    method = build_method("trades", {"beta": 2.5})
    step = make_step(model, method)
    terms = method(step)
    clean = model(step.x)
    point = make_step(model, method).craft(lambda logits: kl_divergence(clean.detach(), logits))
    expected = cross_entropy(clean, step.y) + 2.5 * kl_divergence(clean, model(point))
    assert torch.allclose(terms.total, expected)
    one_sided = cross_entropy(clean, step.y) + 2.5 * kl_divergence(clean.detach(), model(point))
    ours, theirs, other = (
        torch.autograd.grad(loss.mean(), model[1].weight, retain_graph=True)[0]
        for loss in (terms.total, expected, one_sided)
    )
    assert torch.allclose(ours, theirs)
    assert not torch.allclose(ours, other)
    assert (terms.parts["divergence"] > 0).all()


def test_trades_uses_batch_statistics_in_its_second_pass():
    model = network()
    method = build_method("trades", {})
    step = make_step(model, method, epsilon=1e-7)
    model[4].p = 0.0
    terms = method(step)
    # With x' close to x the divergence vanishes only if both passes normalise in the same way.
    assert terms.parts["divergence"].abs().max() < 1e-6


@pytest.mark.parametrize("method", ["adversarial_training", "robust_self_training", "trades"])
@pytest.mark.parametrize("bn", ["eval", "train"])
def test_crafting_updates_buffers_in_train_mode_only(method, bn):
    model = network()
    step = make_step(model, build_method(method, {}), bn=bn)
    step.craft(lambda logits: cross_entropy(logits, step.y))
    assert model[1].num_batches_tracked == (3 if bn == "train" else 0)


def test_crafting_in_dropout_train_mode_differs_and_is_repeatable():
    def point(dropout: str, craft_seed: int) -> torch.Tensor:
        step = make_step(network(), build_method("adversarial_training", {}), dropout=dropout, craft_seed=craft_seed)
        torch.rand(3)
        return step.craft(lambda logits: cross_entropy(logits, step.y))

    assert torch.equal(point("train", 1), point("train", 1))
    assert not torch.equal(point("train", 1), point("train", 2))
    assert torch.equal(point("eval", 1), point("eval", 2))


def test_parts_of_weight_zero_are_not_computed():
    calls = []
    model = network()
    model.register_forward_hook(lambda *_: calls.append(1))
    run(build_method("trades", {"beta": 0.0}), model)
    run(build_method("trades", {}), model, epsilon=0.0)
    run(build_method("adversarial_training", {}), model, epsilon=0.0)
    run(build_method("gradient_regularization", {"lambda": 0.0}), model)
    run(build_method("robust_self_training", {"lambda": 0.0}), model)
    run(build_method("robust_self_training", {}), model, epsilon=0.0)
    run(build_method("locally_linear", {"lambda": 0.0, "mu": 0.0}), model)
    run(build_method("locally_linear", {"lambda": 0.0, "variant": "as_run"}), model)
    run(build_method("locally_linear", {}), model, epsilon=0.0)
    assert len(calls) == 9


def test_locally_linear_crafts_in_its_craft_mode():
    """In train mode crafting updates the running statistics too: once for x, then at each step."""
    method = build_method("locally_linear", {})
    model = network()
    run(method, model, bn="train")
    assert model[1].num_batches_tracked == 1 + 3 + 1
