"""Strong attacks on a front's members: networks that mask their gradients are found out, healthy ones pass silently."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
import torch
from helpers.networks.masked import MASK
from helpers.studies.tracked import row
from torch import nn

from analysis.data.results import read_evaluations, read_results, trial_file, write_rows
from analysis.data.schema import RESULT
from analysis.heldout.members import read_uses
from study.config.schema import parse_config
from study.evaluation import strong_attacks
from study.evaluation.strong_attacks import attack_members, strong_passes
from study.lifecycle.estimate import print_estimate
from trainables.attacks import autoattack, square
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.data import load_dataset
from trainables.evaluation.evaluate import evaluate
from trainables.evaluation.trial import measure, measured_part
from trainables.spec import EvaluationSpec, LipschitzSpec
from trainables.training.loop import Trainer

FEW = {"examples": 4, "steps": 5}


def config_of(model, attack, *, strong_images=200):
    return parse_config(
        {
            "name": "s",
            "dataset": {"name": "digits", "val_fraction": 0.25},
            "model": {"name": model},
            "training": {"epochs": 6, "batch_size": 64, "lr": 0.05},
            "evaluation": {"epsilon": 0.1, "examples": 200, "every": 100, "attack": attack, "lipschitz": FEW},
            "search": {"space": "core", "methods": "all"},
            "front": {"strong_images": strong_images},
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains a network on the digits, once, and returns its row and its checkpoints."""

    @functools.cache
    def train(model, attack, method, alpha):
        radius = {"train_epsilon": 0.1} if method != "natural" else {}
        drawn = {"method": method, **radius, **({} if alpha is None else {"alpha": alpha})}
        spec = config_of(model, attack).trial_spec(drawn, number=0)
        data = load_dataset(spec.dataset)
        token = MASK.set(False)
        trainer = Trainer(spec, data=data, device="cpu")
        while not trainer.done:
            trainer.run_epoch()
        folder = tmp_path_factory.mktemp("trained")
        trainer.save_checkpoints(folder)
        MASK.set(True)
        images, labels = measured_part(
            data.val, 200, scale=data.scale, layout=torch.contiguous_format, device=trainer.device
        )
        measures = measure(trainer.model, images, labels, spec=spec, split="val")
        own = {f"val_{name}": value for name, value in measures.summary().items()}
        found = {**row(0), **trainer.outcome().row, **own, "study": "s", "trial_id": "00000", "number": 0}
        MASK.reset(token)
        return found | {"flags": []}, folder  # as where the cheap checks see nothing

    return train


@pytest.fixture
def attacked(tmp_path, trained):
    """Return a function that makes a study of one trial of a network trained on the digits, and attacks its front."""

    token = MASK.set(True)

    def run(model="mlp", *, method="natural", alpha=None, attack="reachable_targets", strong_images=200, **options):
        own, made = trained(model, attack, method, alpha)
        folder = tmp_path / "checkpoints/00000"
        shutil.copytree(made, folder, dirs_exist_ok=True)
        own = own | {"checkpoint_path": str(folder)}
        write_rows(trial_file(tmp_path, "00000"), [own], RESULT, replace=True)
        table = read_results(tmp_path)
        config = config_of(model, attack, strong_images=strong_images)
        return table.to_pylist()[0], attack_members(config, tmp_path, table, **options)

    yield run
    MASK.reset(token)


@pytest.fixture
def few_queries(monkeypatch):
    """What `square` finds is not asked."""
    monkeypatch.setattr(square, "QUERIES", 20)


@pytest.fixture
def without_autoattack(monkeypatch):
    monkeypatch.setattr(strong_attacks, "strong_attacks", lambda images: {"multi_targeted": images, "square": images})


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "attack"),
    [
        ("reversed_gradients", "reachable_targets"),
        ("clamped_logits", "reachable_targets"),
        ("leaky_quantisation", "pgd"),
        ("shattered_gradients", "reachable_targets"),
    ],
)
def test_a_network_that_masks_its_gradients_is_doubtful(attacked, without_autoattack, model, attack):
    measured, found = attacked(f"helpers.networks.masked:{model}", attack=attack)
    (strong,) = found.values()
    assert strong.searched == pytest.approx(measured["val_robust_accuracy"])
    assert strong.fall > 0.02
    assert f"falls by {strong.fall:.3f}" in strong.doubts


def is_not_doubtful(attacked, method):
    _, found = attacked(method=method, strong_images=100)
    (strong,) = found.values()
    assert not strong.doubts
    assert 0 <= strong.fall <= 0.02


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "queries"),
    [
        ("adversarial_training", 1000),  # as many as of `square` on all images
        pytest.param("natural", autoattack.SQUARE_QUERIES, marks=pytest.mark.chaos),  # for its length
    ],
)
def test_a_healthy_network_is_not_doubtful(attacked, method, queries, monkeypatch):
    monkeypatch.setattr(autoattack, "SQUARE_QUERIES", queries)
    is_not_doubtful(attacked, method)


@pytest.mark.long
def test_nor_is_a_naturally_trained_one_to_all_but_autoattack(attacked, without_autoattack):
    is_not_doubtful(attacked, "natural")


@pytest.mark.long
def test_what_can_be_certified_of_a_member_is_at_most_what_any_attack_leaves(attacked, without_autoattack, tmp_path):
    _, found = attacked(method="mtl_ibp", alpha=0.1, strong_images=60)
    (strong,) = found.values()
    assert 0 < strong.certified <= strong.robust <= strong.searched
    rows = {one["attack"]: one["certified_accuracy"] for one in read_evaluations(tmp_path, split="val").to_pylist()}
    assert rows == {"reachable_targets": strong.certified, "multi_targeted": None, "square": None}


def test_the_measurements_are_on_validation_and_no_use_of_test(attacked, without_autoattack, few_queries, tmp_path):
    attacked(strong_images=40)
    rows = read_evaluations(tmp_path, split="val").to_pylist()
    assert [(one["attack"], one["examples"], one["checks"]) for one in rows] == [
        ("multi_targeted", 40, "cheap"), ("reachable_targets", 40, "full"), ("square", 40, "cheap"),
    ]  # fmt: skip
    assert read_uses(tmp_path) == []


def test_no_images_turn_the_attacks_off(attacked, tmp_path):
    _, found = attacked(strong_images=0)
    assert found == {}
    assert read_evaluations(tmp_path, split="val").num_rows == 0


def test_a_stopped_study_keeps_what_is_measured_and_a_resumed_one_measures_the_rest(
    attacked, without_autoattack, few_queries, tmp_path
):
    _, found = attacked(strong_images=40, ended=lambda: True)
    assert found == {}
    assert read_evaluations(tmp_path, split="val").num_rows == 1
    _, found = attacked(strong_images=40)
    assert found
    assert read_evaluations(tmp_path, split="val").num_rows == 3


def test_a_lost_checkpoint_is_a_line_and_costs_the_study_nothing(attacked, without_autoattack, tmp_path, capsys):
    def lose():
        (tmp_path / "checkpoints/00000/last.pt").unlink(missing_ok=True)
        return False

    _, found = attacked(strong_images=40, ended=lose)
    assert found == {}
    assert "not attacked: " in capsys.readouterr().err


def test_a_dry_run_says_what_they_cost_at_most(capsys, monkeypatch):
    search = {"space": "core", "num_trials": 5, "methods": ["natural"]}
    config = parse_config({"name": "s", "dataset": {"name": "digits"}, "model": {"name": "mlp"}, "search": search})
    data = load_dataset(config.dataset)
    monkeypatch.setattr("study.lifecycle.estimate._strong_seconds", lambda *_: 600.0)
    print_estimate(config, Path("studies/s"), data=data)
    assert (
        "strong attacks on the front at the end: at most 10m00s a member, 5 members at most" in capsys.readouterr().out
    )


class Counting(nn.Module):
    """Logits of which the first is always ahead; counts the images that pass with and without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(25, 10)
        self.gradients = self.others = 0

    def forward(self, x):
        if torch.is_grad_enabled():
            self.gradients += len(x)
        else:
            self.others += len(x)
        return self.layer(x.flatten(1)) + torch.tensor([9.0] + 9 * [0.0])


LONGEST = pytest.param("autoattack", marks=pytest.mark.chaos)  # for its length


@pytest.mark.long
@pytest.mark.parametrize("attack", ["reachable_targets", "pgd", "multi_targeted", "square", "apgd_t", LONGEST])
def test_a_network_that_nothing_fools_takes_no_more_gradients_than_the_dry_run_says(attack):
    """Counted on a network whose right class is ahead by a constant, so that no ascent ends early."""
    evaluation = EvaluationSpec(attack=attack, steps=3, examples=20, lipschitz=LipschitzSpec(steps=2, examples=20))
    network = Counting()
    images, labels = torch.rand(20, 1, 5, 5), torch.zeros(20, dtype=torch.int64)
    lipschitz = evaluation.lipschitz
    ascent = Ascent(ThreatModel("linf", 0.1), evaluation.steps, evaluation.restarts)
    evaluate(network, images, labels, attack=attack, ascent=ascent, lipschitz=lipschitz, seed=0, checks="full")
    hard = Ascent(ascent.threat, strong_attacks.STEPS, 1)
    for strong in ("multi_targeted", "square"):
        evaluate(network, images, labels, attack=strong, ascent=hard, lipschitz=None, seed=0)
    (passes,) = strong_passes(evaluation, images=20, classes=10).values()
    assert network.gradients + network.others / 3 <= 20 * passes <= 3 * (network.gradients + network.others / 3)


@pytest.mark.parametrize(("images", "by_autoattack"), [(200, 30), (100, 30), (99, None), (1, None)])
def test_autoattack_takes_the_first_images_and_is_left_out_where_there_are_few(monkeypatch, images, by_autoattack):
    monkeypatch.setattr(strong_attacks, "require_package", lambda name: None)
    own = {} if by_autoattack is None else {"autoattack": by_autoattack}
    assert strong_attacks.strong_attacks(images) == {"multi_targeted": images, "square": images} | own
