"""The training loop: equivalences, repeatability, resuming, divergence, and result rows."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks.toy_problems import assert_equal, blobs, deterministic, run, tiny_spec, trainer

from trainables.checkpoints.format import CheckpointError
from trainables.methods import METHODS
from trainables.methods.base import build_method
from trainables.spec import CraftMode, LipschitzSpec
from trainables.training.fit import fit
from trainables.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[3]


def default_radius(method: str, epsilon: float = 0.1) -> float | None:
    return epsilon if build_method(method, {}).attacks else None


def assert_same_state(a: Trainer, b: Trainer) -> None:
    for name, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[name]), name


COMPARED = {"epochs": 4, "augment": "crop_flip", "every": 9}


@functools.cache
def natural(batch_size: int) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """Return the loss and the state after each of three epochs of natural training, with which methods are compared."""
    trained, found = trainer(tiny_spec("natural", batch_size=batch_size, **COMPARED)), []
    for _ in range(3):
        loss = trained.run_epoch()["loss"]
        found.append((loss, copy.deepcopy(trained.model.state_dict())))
    return found


# Settings with which each method is natural training.
NATURAL = [
    ("trades", {"params": {"beta": 0.0}, "train_epsilon": 0.1}),
    ("trades", {"params": {"beta": 6.0}, "train_epsilon": 0.0}),
    ("adversarial_training", {"train_epsilon": 0.0}),
    ("adversarial_training", {"train_epsilon": 0.0, "craft_mode": CraftMode(bn="train", dropout="train")}),
    ("gradient_regularization", {"params": {"lambda": 0.0}}),
    ("locally_linear", {"params": {"lambda": 0.0, "mu": 0.0}, "train_epsilon": 0.1}),
    ("locally_linear", {"params": {"lambda": 0.0, "variant": "as_run"}, "train_epsilon": 0.1}),
    ("locally_linear", {"train_epsilon": 0.0}),
    ("robust_self_training", {"params": {"lambda": 0.0}, "train_epsilon": 0.1}),
    ("robust_self_training", {"train_epsilon": 0.0}),
    ("lipschitz_penalty", {"params": {"lambda": 0.0}, "train_epsilon": 0.1}),
    ("lipschitz_penalty", {"train_epsilon": 0.0}),
    ("lipschitz_penalty", {"params": {"on": "adversarial"}, "train_epsilon": 0.0}),
    ("fat", {"train_epsilon": 0.0}),
    ("hat", {"params": {"beta": 0.0, "gamma": 0.0}, "train_epsilon": 0.1}),
    ("hat", {"train_epsilon": 0.0}),
    ("n_fgsm", {"train_epsilon": 0.0}),
    ("mtl_ibp", {"train_epsilon": 0.0}),
    ("mtl_ibp", {"params": {"alpha": 0.0}, "train_epsilon": 0.0}),
    ("large_margin", {"params": {"sharpness": 1.0, "offset": 0.0}}),
]

NEVER_NATURAL = {"mart", "score"}
"""Their losses at x are the boosted cross-entropy and the squared error, not cross-entropy."""

# Settings with which two methods are one.
EQUAL = [
    (("adversarial_training", {}), ("fat", {"tau": 3})),
    (("adversarial_training", {}), ("mtl_ibp", {"alpha": 0.0})),
    (("adversarial_training", {}), ("lipschitz_penalty", {"lambda": 0.0, "on": "adversarial"})),
    (("trades", {"beta": 6.0}), ("hat", {"beta": 6.0, "gamma": 0.0})),
]


# With one batch per epoch every single step is compared; the other size has many batches.
@pytest.mark.parametrize(("batch_size", "epochs"), [(90, 3), (16, 2)])
@pytest.mark.parametrize(("method", "settings"), NATURAL)
def test_methods_reduce_to_natural_training_step_for_step(method, settings, batch_size, epochs):
    """Bit for bit, with batch norm and dropout on."""
    other = trainer(tiny_spec(method, **settings, batch_size=batch_size, **COMPARED))
    for loss, state in natural(batch_size)[:epochs]:
        assert other.run_epoch()["loss"] == loss
        for name, value in other.model.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_every_method_is_compared_with_natural_training():
    assert {method for method, _ in NATURAL} == set(METHODS) - {"natural"} - NEVER_NATURAL


@pytest.mark.long
@pytest.mark.parametrize("craft_mode", [CraftMode(), CraftMode(bn="train", dropout="train")], ids=str)
@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_methods_are_one_step_for_step(one, other, craft_mode):
    """Bit for bit, with batch norm and dropout on."""
    common = {"train_epsilon": 0.1, "epochs": 3, "every": 9, "craft_mode": craft_mode}
    first, second = (trainer(tiny_spec(method, params=params, **common)) for method, params in (one, other))
    for _ in range(2):
        assert first.run_epoch()["loss"] == second.run_epoch()["loss"]
        assert_same_state(first, second)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"natural"}))
def test_methods_differ_from_natural_training_otherwise(method):
    other = trainer(tiny_spec(method, train_epsilon=default_radius(method), batch_size=90, **COMPARED))
    other.run_epoch()
    state = natural(90)[0][1]
    assert any(not torch.equal(value, state[name]) for name, value in other.model.state_dict().items())


# What a method keeps shows after any epoch; one of them is also resumed where it was just measured, and at its end.
@pytest.mark.parametrize(("method", "stops"), [(name, (1, 2, 3) if name == "trades" else (1,)) for name in METHODS])
def test_resuming_changes_no_bit(method, stops, tmp_path):
    spec = tiny_spec(
        method, train_epsilon=default_radius(method), epochs=3, every=2, steps=1, examples=12, augment="crop",
        lipschitz=LipschitzSpec(steps=1, examples=4),
    )  # fmt: skip
    uninterrupted = trainer(spec, train=45)
    while not uninterrupted.done:
        uninterrupted.run_epoch()
        uninterrupted.save(tmp_path / f"{uninterrupted.epoch}.pt")
    ours = uninterrupted.outcome()
    assert ours.status == "completed"
    for stop in stops:
        second = trainer(spec, train=45)
        second.load(tmp_path / f"{stop}.pt")
        while not second.done:
            second.run_epoch()
        assert_same_state(uninterrupted, second)
        theirs = second.outcome()
        assert deterministic(ours.row) == deterministic(theirs.row)
        assert [deterministic(row) for row in ours.epochs] == [deterministic(row) for row in theirs.epochs]
        for split, columns in ours.examples.items():
            for name, values in columns.items():
                assert np.array_equal(values, theirs.examples[split][name], equal_nan=values.dtype.kind == "f")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fit_resumes_from_a_file(optimizer, tmp_path):
    spec = tiny_spec(optimizer=optimizer, lr=0.01, every=2)
    half = trainer(spec)
    half.run_epoch()
    half.save(tmp_path / "last.pt")
    rows = []
    outcome = fit(spec, data=blobs(), device="cpu", report=rows.append, resume_from=tmp_path / "last.pt")
    assert [row["epoch"] for row in rows] == [2]
    assert deterministic(outcome.row) == deterministic(fit(spec, data=blobs(), device="cpu").row)
    assert outcome.row["seconds_training"] > half.history[0]["seconds"] * 0.1


def test_checkpoint_of_another_spec_changes_nothing(tmp_path):
    other = trainer(tiny_spec(seed=1))
    other.run_epoch()
    other.save(tmp_path / "last.pt")
    fresh, untouched = trainer(tiny_spec(seed=2)), trainer(tiny_spec(seed=2))
    message = "belongs to another spec: `seed` is 1 in the checkpoint and 2 in the trial"
    with pytest.raises(CheckpointError, match=message):
        fresh.load(tmp_path / "last.pt")
    assert fresh.epoch == 0
    assert_same_state(fresh, untouched)


PROGRAM = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from helpers.networks.toy_problems import blobs, deterministic, tiny_spec
from trainables.training.fit import fit
row = fit(tiny_spec("trades", train_epsilon=0.1, augment="crop"), data=blobs(), device="cpu").row
print(json.dumps([deterministic(row), "torch._dynamo" in sys.modules]))
"""


@pytest.mark.long
def test_two_processes_give_the_same_row():
    """The other one hashes differently and has trained nothing before."""
    other = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT), str(ROOT / "tests")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
        timeout=300,
        check=True,
    )
    row, compiler = json.loads(other.stdout)
    own = fit(tiny_spec("trades", train_epsilon=0.1, augment="crop"), data=blobs(), device="cpu").row
    assert row == json.loads(json.dumps(deterministic(own)))
    assert row["val_lipschitz_mean"] > 0
    # torch's own optimisers would import its compiler, which takes seconds in every worker.
    assert not compiler


def test_a_trial_neither_depends_on_global_state_nor_changes_it():
    spec = tiny_spec("adversarial_training", train_epsilon=0.1, every=2)
    rows = []
    for seed, threads in ((1, 1), (2, 2)):
        torch.manual_seed(seed)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        state = torch.get_rng_state()
        rows.append(deterministic(run(spec).outcome().row))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(before)
    assert rows[0] == rows[1]
    assert rows[0] != deterministic(run(dataclasses.replace(spec, seed=1)).outcome().row)


def test_divergence_is_a_recorded_outcome(tmp_path):
    diverged = trainer(tiny_spec(name="mlp", lr=100.0, momentum=0.99, epochs=6, schedule="constant", clip_norm=None))
    while not diverged.done:
        diverged.run_epoch()
    outcome = diverged.outcome()
    assert (outcome.status, outcome.reason) == ("failed", "diverged")
    assert outcome.examples == {}
    assert outcome.row["reason"] == "diverged"
    for split in ("train", "val"):
        assert outcome.row[f"{split}_clean_accuracy"] is None
        assert outcome.row[f"{split}_lipschitz_mean"] is None
    assert outcome.row["robust_gap"] is None
    assert outcome.epochs[-1]["loss"] is None or outcome.epochs[-1]["val_loss"] is None
    assert json.loads(json.dumps(outcome.epochs, allow_nan=False)) == outcome.epochs
    diverged.save(tmp_path / "last.pt")
    resumed = trainer(diverged.spec)
    resumed.load(tmp_path / "last.pt")
    assert resumed.done
    assert resumed.outcome().status == "failed"
    with pytest.raises(RuntimeError, match="is done"):
        resumed.run_epoch()


def test_measurements_follow_the_interval_and_are_carried_between():
    rows = run(tiny_spec(epochs=5, every=2, warmup=0.0)).history
    assert [row["stale"] for row in rows] == [True, False, True, False, False]
    assert rows[0]["val_robust_accuracy"] is None
    assert rows[2]["val_robust_accuracy"] == rows[1]["val_robust_accuracy"] is not None
    assert rows[2]["val_lipschitz_mean"] == rows[1]["val_lipschitz_mean"]
    assert all(row["val_clean_accuracy"] is not None for row in rows)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["lr"] == 0.05
    assert rows[-1]["lr"] < 0.01


def test_training_images_are_measured_with_validation_and_nothing_else_changes(monkeypatch):
    spec = tiny_spec("trades", train_epsilon=0.1, epochs=3, every=2, augment="crop")
    trained, outcome = (measured := run(spec)).model, measured.outcome()
    curve = [[row[f"train_{kind}_accuracy"] for kind in ("clean", "robust")] for row in outcome.epochs]
    assert [row["stale"] for row in outcome.epochs] == [clean is None for clean, _ in curve]
    assert all(0 <= robust <= clean <= 1 for clean, robust in curve if clean is not None)
    last = outcome.examples["train"]
    assert curve[-1] == [last[f"{kind}_correct"][:100].mean() for kind in ("clean", "robust")]
    monkeypatch.setattr("trainables.training.loop.train_accuracies", lambda *network, spec: {})
    without = run(spec)
    assert_equal(trained, without.model)
    assert deterministic(outcome.row) == deterministic(without.outcome().row)
    named = set(outcome.epochs[0]) - {"train_clean_accuracy", "train_robust_accuracy", "seconds"}
    assert [[row[name] for name in named] for row in measured.history] == [
        [row[name] for name in named] for row in without.history
    ]


def test_outcome_during_training_describes_the_current_model():
    spec = tiny_spec(epochs=4, every=2)
    trained = trainer(spec)
    with pytest.raises(RuntimeError, match="before the first epoch"):
        trained.outcome()
    trained.run_epoch()
    early = trained.outcome()
    assert early.status == "stopped_early"
    assert early.row["val_robust_accuracy"] is not None
    assert early.row["val_clean_accuracy"] == trained.history[0]["val_clean_accuracy"]
    assert early.row["train_clean_accuracy"] is None
    assert early.row["clean_gap"] is None
    assert early.row["epochs"] == 1
    assert set(early.examples) == {"val"}
    while not trained.done:
        trained.run_epoch()
    assert deterministic(trained.outcome().row) == deterministic(run(spec).outcome().row)


def test_completed_outcome():
    spec = tiny_spec("trades", train_epsilon=0.1, params={"beta": 2.0}, epochs=6, every=6, lr=0.1, ramp=0.0)
    outcome = run(spec).outcome()
    row = outcome.row
    assert (outcome.status, outcome.reason, outcome.flags) == ("completed", None, [])
    assert row["param.beta"] == 2.0
    assert row["craft_mode"] == "bn=eval,dropout=eval"
    assert (row["examples"], row["lipschitz_examples"]) == (30, 8)
    assert row["clean_gap"] == row["train_clean_accuracy"] - row["val_clean_accuracy"]
    assert 0 <= row["val_robust_accuracy"] <= row["val_clean_accuracy"]
    assert row["val_clean_accuracy"] > 0.9
    assert row["seconds"] >= row["seconds_training"] + row["seconds_attack"] + row["seconds_lipschitz"]
    assert min(row["examples_per_second"], row["peak_memory_mb"], row["seconds_attack"]) > 0
    for split, data in (("train", blobs().train), ("val", blobs().val)):
        columns = outcome.examples[split]
        assert np.array_equal(columns["index"], data.index[:30])
        assert columns["clean_correct"].mean() == row[f"{split}_clean_accuracy"]
        assert columns["robust_correct"].mean() == row[f"{split}_robust_accuracy"]
        assert np.nanmean(columns["lipschitz"]) == pytest.approx(row[f"{split}_lipschitz_mean"])
        assert np.isfinite(columns["lipschitz"]).sum() == 8
    assert set(outcome.epochs[0]) >= {"loss", "part.clean", "part.divergence"}
    weighted = [epoch["part.clean"] + 2 * epoch["part.divergence"] for epoch in outcome.epochs]
    assert weighted == pytest.approx([epoch["loss"] for epoch in outcome.epochs])


def test_no_more_training_images_are_measured_than_validation_has():
    outcome = run(tiny_spec(examples=10_000)).outcome()
    assert outcome.row["examples"] == len(blobs().val) < len(blobs().train)
    assert {len(columns["index"]) for columns in outcome.examples.values()} == {len(blobs().val)}


def test_more_examples_requested_than_available():
    row = run(tiny_spec(epochs=1, examples=1000), val=12).outcome().row
    assert (row["examples"], row["lipschitz_examples"]) == (12, 8)


@pytest.mark.long
def test_adversarial_training_makes_a_network_more_robust():
    settings = {"epochs": 8, "every": 8, "epsilon": 0.2, "steps": 10, "lr": 0.1, "dropout": 0.0}
    natural, robust = (
        run(tiny_spec(method, train_epsilon=radius, **settings), train=180, val=90).outcome().row
        for method, radius in (("natural", None), ("adversarial_training", 0.2))
    )
    assert natural["val_clean_accuracy"] > 0.9
    assert robust["val_robust_accuracy"] > natural["val_robust_accuracy"] + 0.1
    assert robust["val_lipschitz_scale_free_mean"] < natural["val_lipschitz_scale_free_mean"]


def test_single_image_batch_is_dropped_with_batch_norm():
    run(tiny_spec(epochs=1, batch_size=89))
    with pytest.raises(ValueError, match=r"`training.batch_size` must leave batch norm 2 or more"):
        run(tiny_spec(batch_size=1))


def test_contradicting_spec_is_refused_before_training():
    with pytest.raises(ValueError, match=r"`train_epsilon` must be null for method 'natural', got 0\.1"):
        trainer(tiny_spec("natural", train_epsilon=0.1))
    with pytest.raises(ValueError, match="method 'natural' has no parameter `beta`"):
        trainer(tiny_spec("natural", params={"beta": 1.0}))
