"""Training options: averaged weights, mixed precision, best and last checkpoints, overfitting."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
import torch
from helpers.networks.toy_problems import assert_equal, blobs, deterministic, linear, run, tiny_spec, trainer
from torch import nn

from trainables.attacks.fgsm import fgsm
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.checkpoints.format import CheckpointError, read_checkpoint, write_checkpoint
from trainables.evaluation.evaluate import Measures, clean_measures
from trainables.evaluation.trial import TRAINING_FLAGS, catastrophic_overfitting, measure
from trainables.methods import METHODS
from trainables.spec import EvaluationSpec
from trainables.training.fit import fit
from trainables.training.loop import BEST, LAST
from trainables.training.outcome import Best
from trainables.training.weight_average import WeightAverage


class TestAverage:
    DECAY = 0.8

    @pytest.mark.parametrize("warmup", [False, True])
    def test_equals_the_formula_and_does_not_change_training(self, warmup):
        averaging = [{}, {"ema": self.DECAY, "ema_warmup": warmup}]
        plain, averaged = (trainer(tiny_spec(epochs=3, every=9, steps=1, **training)) for training in averaging)
        states = [{k: v.clone() for k, v in plain.model.state_dict().items()}]
        take_step = plain.optimizer.step

        def recorded(lr: float) -> None:
            take_step(lr)
            states.append({k: v.clone() for k, v in plain.model.state_dict().items()})

        plain.optimizer.step = recorded
        for _ in range(3):
            plain.run_epoch()
            averaged.run_epoch()
        assert len(states) == 1 + 3 * 6
        assert_equal(plain.model, averaged.model)
        average = averaged.measured.state_dict()
        for name, first in states[0].items():
            if not first.is_floating_point():
                assert torch.equal(average[name], states[-1][name])
                continue
            if warmup:
                mean = first.double()
                for step, state in enumerate(states[1:]):
                    decay = min(self.DECAY, (1 + step) / (10 + step))
                    mean = decay * mean + (1 - decay) * state[name].double()
            else:
                shares = self.DECAY ** torch.arange(len(states) - 1, dtype=torch.float64).flip(0)
                values = torch.stack([state[name].double() for state in states[1:]], -1)
                mean = values @ (shares / shares.sum())
            assert torch.allclose(average[name].double(), mean, atol=1e-6), name
            learnt = not name.startswith("normalize")
            assert torch.equal(average[name], plain.model.state_dict()[name]) != learnt, name

    def test_is_measured_and_saved(self, tmp_path):
        made = run(tiny_spec(epochs=2, ema=0.9))
        made.save_checkpoints(tmp_path)
        _, loss = clean_measures(made.measured, made._val_images, made._val_labels)
        assert made.outcome().row["val_loss"] == pytest.approx(loss, rel=1e-6)
        assert made.outcome().row["param.ema"] == 0.9
        assert loss != clean_measures(made.model, made._val_images, made._val_labels)[1]
        saved = read_checkpoint(tmp_path / LAST)["model"]
        assert all(torch.equal(value, saved[name]) for name, value in made.measured.state_dict().items())

    def test_decays_differ_in_a_short_training_and_shares_sum_to_one(self):
        weight = nn.Linear(1, 1, bias=False).requires_grad_(requires_grad=False)
        averages = {decay: WeightAverage(weight, decay=decay, warmup=False) for decay in (0, 0.5, 0.9, 0.99, 0.999)}
        means = {}
        for step in range(66):
            weight.weight.fill_(step + 1)
            for decay, average in averages.items():
                average.update(weight, step=step)
                means[decay] = float(average.model.weight)
                if step == 0:
                    assert means[decay] == 1
        assert means[0] == 66
        # the mean of 1 to 66 with shares in proportion to powers of the decay, in closed form
        for decay in (0.5, 0.9, 0.99, 0.999):
            expected = 66 / (1 - decay**66) - decay / (1 - decay)
            assert means[decay] == pytest.approx(expected, rel=1e-5)
        assert np.diff(sorted(means.values())).min() > 0.5

    @pytest.mark.long
    @pytest.mark.parametrize(("stop", "warmup"), [(1, False), (2, False), (1, True)])
    def test_resuming_changes_no_bit(self, stop, warmup, tmp_path):
        spec = tiny_spec("trades", train_epsilon=0.1, epochs=3, ema=0.9, ema_warmup=warmup, every=2)
        uninterrupted, first = run(spec), trainer(spec)
        for _ in range(stop):
            first.run_epoch()
        first.save_checkpoints(tmp_path)
        second = trainer(spec)
        second.load(tmp_path / LAST)
        while not second.done:
            second.run_epoch()
        assert_equal(uninterrupted.model, second.model)
        assert_equal(uninterrupted.measured, second.measured)
        assert deterministic(uninterrupted.outcome().row) == deterministic(second.outcome().row)

    def test_a_checkpoint_from_before_the_setting_is_of_the_former_average(self, tmp_path):
        spec = tiny_spec(epochs=2, ema=0.9, ema_warmup=True)
        by_pgd = replace(spec.evaluation, attack="pgd")
        spec = replace(spec, evaluation=by_pgd)
        uninterrupted, first = run(spec), trainer(spec)
        first.run_epoch()
        first.save(tmp_path / LAST)
        state = read_checkpoint(tmp_path / LAST)
        tree = json.loads(state["spec"])
        del tree["training"]["ema_warmup"], tree["evaluation"]["attack"]
        write_checkpoint(tmp_path / LAST, {**state, "spec": json.dumps(tree)})
        second = trainer(spec)
        second.load(tmp_path / LAST)
        second.run_epoch()
        assert_equal(uninterrupted.measured, second.measured)
        with pytest.raises(CheckpointError, match=r"belongs to another spec: `training\.ema_warmup`"):
            trainer(replace(tiny_spec(epochs=2, ema=0.9), evaluation=by_pgd)).load(tmp_path / LAST)

    @pytest.mark.parametrize("warmup", [False, True])
    def test_of_equal_weights_equals_them(self, warmup):
        """They are equal bit for bit, so constants such as the normalisation's do not drift."""
        model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
        average = WeightAverage(model, decay=0.99, warmup=warmup)
        for step in range(50):
            average.update(model, step=step)
        assert_equal(model, average.model)
        assert not any(parameter.requires_grad for parameter in average.model.parameters())


class TestPrecision:
    @pytest.mark.long
    @pytest.mark.parametrize("method", ["natural", "trades", "adversarial_training", "robust_self_training"])
    def test_bf16_trains_fp32_weights_close_to_fp32(self, method):
        radius = None if method == "natural" else 0.1
        coarse, fine = (run(tiny_spec(method, train_epsilon=radius, precision=p)) for p in ("bf16", "fp32"))
        assert all(value.dtype != torch.bfloat16 for value in coarse.model.state_dict().values())
        assert coarse.history[0]["loss"] != fine.history[0]["loss"]
        assert coarse.history[-1]["loss"] == pytest.approx(fine.history[-1]["loss"], rel=0.05)
        moved = dict(trainer(coarse.spec).model.named_parameters())
        assert all(not torch.equal(value, moved[name]) for name, value in coarse.model.named_parameters())

    @pytest.mark.parametrize("method", ["gradient_regularization", "locally_linear"])
    def test_methods_that_subtract_two_passes_stay_in_fp32(self, method):
        radius = 0.1 if method == "locally_linear" else None
        coarse, fine = (run(tiny_spec(method, train_epsilon=radius, precision=p, epochs=1)) for p in ("bf16", "fp32"))
        assert_equal(coarse.model, fine.model)


class TestBest:
    @staticmethod
    def measures(robust: float) -> Measures:
        correct = np.arange(10) < 10 * robust
        return Measures(correct, correct, np.zeros(10), np.zeros(0), None, (), 0.0, 0.0)

    def test_has_the_highest_accuracy_and_is_the_earliest_on_ties(self):
        best = None
        for epoch, robust in enumerate((0.3, 0.5, 0.4, 0.5, 0.1), start=1):
            best = Best(epoch, self.measures(robust)).better_of(best)
        assert best.epoch == 2

    # With this learning rate natural training loses robustness after the first epochs.
    SPEC = tiny_spec(epochs=6, lr=0.3, epsilon=0.15, dropout=0.0, schedule="constant", seed=3)

    def test_both_checkpoints_are_saved_and_measured(self, tmp_path):
        outcome = fit(self.SPEC, data=blobs(), device="cpu", checkpoint_dir=tmp_path)
        row, curve = outcome.row, [epoch["val_robust_accuracy"] for epoch in outcome.epochs]
        assert row["best_epoch"] == 1 + curve.index(max(curve)) < 6
        assert row["best_val_robust_accuracy"] == max(curve) > row["val_robust_accuracy"] == curve[-1]
        assert row["best_val_clean_accuracy"] == outcome.epochs[row["best_epoch"] - 1]["val_clean_accuracy"]
        assert [epoch["best_val_robust_accuracy"] for epoch in outcome.epochs] == list(accumulate(curve, max))
        assert outcome.epochs[-1]["best_epoch"] == row["best_epoch"]
        assert row["best_val_lipschitz_mean"] > 0
        assert row["checkpoint_kind"] == "last"
        for name, prefix in ((BEST, "best_val"), (LAST, "val")):
            made = trainer(self.SPEC)
            saved = read_checkpoint(tmp_path / name)
            made.model.load_state_dict(saved["model"])
            measures = measure(made.model, made._val_images, made._val_labels, spec=self.SPEC, split="val")
            assert float(measures.clean_correct.mean()) == row[f"{prefix}_clean_accuracy"]
            assert float(measures.robust_correct.mean()) == row[f"{prefix}_robust_accuracy"]
            assert saved["epoch"] == (row["best_epoch"] if name == BEST else 6)
            examples = (outcome.best_examples if name == BEST else outcome.examples)["val"]
            assert np.array_equal(examples["robust_correct"], measures.robust_correct)
            assert np.array_equal(examples["index"], outcome.examples["val"]["index"])

    def test_is_the_same_after_resuming(self, tmp_path):
        uninterrupted, first = run(self.SPEC), trainer(self.SPEC)
        while first.epoch < 5:
            first.run_epoch()
            first.save_checkpoints(tmp_path)
        second = trainer(self.SPEC)
        second.load(tmp_path / LAST)
        second.run_epoch()
        ours, theirs = uninterrupted.outcome(), second.outcome()
        assert ours.row["best_epoch"] == theirs.row["best_epoch"]
        assert deterministic(ours.row) == deterministic(theirs.row)
        for name, values in ours.best_examples["val"].items():
            assert np.array_equal(values, theirs.best_examples["val"][name], equal_nan=values.dtype.kind == "f")

    def test_is_null_before_the_first_measured_epoch(self, tmp_path):
        made = trainer(tiny_spec(epochs=4, every=2))
        made.run_epoch()
        made.save_checkpoints(tmp_path)
        outcome = made.outcome()
        assert outcome.row["best_epoch"] is outcome.row["best_val_robust_accuracy"] is None
        assert outcome.best_examples == {}
        assert [path.name for path in tmp_path.iterdir()] == [LAST]


class Bump(nn.Module):
    """Logits (0, z), where z is above 0 only if the mean brightness is within 0.02 of 0.55."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = -1 + 3 * torch.exp(-((x.flatten(1).mean(1) - 0.55) / 0.02).square())
        return torch.stack([torch.zeros_like(z), z], dim=1)


class TestCatastrophicOverfitting:
    """Grey images of brightness 0.5: a full step of 0.1 jumps over the bump, but small steps find it."""

    X, Y = torch.full((20, 1, 8, 8), 0.5), torch.zeros(20, dtype=torch.int64)
    EVALUATION = EvaluationSpec(epsilon=0.1, steps=10, examples=20)

    def test_fgsm_is_one_step_of_the_whole_radius(self):
        model = linear(torch.stack([torch.zeros(64), torch.linspace(-1, 1, 64)]))
        found = fgsm(
            model,
            self.X,
            self.Y,
            ascent=Ascent(ThreatModel("linf", 0.1), steps=1, restarts=1),
            generator=torch.Generator(),
        )
        assert torch.allclose(
            found - self.X, 0.1 * torch.linspace(-1, 1, 64).sign().reshape(1, 1, 8, 8).expand(20, -1, -1, -1)
        )

    @pytest.mark.parametrize(("train_epsilon", "expected"), [(0.1, True), (0.2, True), (0.09, True), (0.02, False)])
    def test_is_detected_if_small_steps_find_what_one_large_step_misses(self, train_epsilon, expected):
        found = catastrophic_overfitting(
            Bump(), self.X, self.Y, evaluation=self.EVALUATION, train_epsilon=train_epsilon, robust_accuracy=0.0, seed=0
        )
        assert found is expected

    def test_is_not_detected_on_a_linear_network(self):
        model = linear(torch.stack([torch.zeros(64), torch.full((64,), 0.1)]), torch.tensor([0.0, -3.0]))
        for robust in (0.0, 1.0):
            assert not catastrophic_overfitting(
                model, self.X, self.Y, evaluation=self.EVALUATION, train_epsilon=0.05, robust_accuracy=robust, seed=0
            )

    def test_is_flagged_only_for_trials_that_attack_while_training(self):
        def flags(method: str, radius: float | None, split: str = "val") -> tuple[str, ...]:
            spec = tiny_spec(method, train_epsilon=radius, epsilon=0.1, steps=10)
            return measure(Bump(), self.X, self.Y, spec=spec, split=split).flags

        assert flags("adversarial_training", 0.1) == ("catastrophic_overfitting",)
        assert flags("natural", None) == flags("adversarial_training", 0.0) == ()
        assert flags("adversarial_training", 0.1, split="train") == ()
        assert set(TRAINING_FLAGS) == {"catastrophic_overfitting"}


def test_non_numeric_options_have_their_own_column():
    row = trainer(tiny_spec("locally_linear", train_epsilon=0.1, params={"variant": "as_run"}))._columns
    assert json.loads(row["options"]) == {"variant": "as_run"}
    assert row["param.lambda"] == 4.0
    assert "param.variant" not in row
    assert trainer(tiny_spec())._columns["options"] is None


@pytest.mark.gpu
@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(
    "settings", [{"precision": "bf16", "ema": 0.9}, {"compile": True}], ids=["bf16 ema", "compile"]
)
def test_options_on_a_gpu(method, settings):
    radius = 0.1 if METHODS.load(method).attacks else None
    spec = tiny_spec(method, train_epsilon=radius, epochs=3, **settings)
    outcome = fit(spec, data=blobs(), device="cuda")
    assert outcome.status == "completed"
    assert outcome.row["val_clean_accuracy"] > 0.5
