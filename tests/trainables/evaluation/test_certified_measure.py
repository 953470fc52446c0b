"""Certified accuracy as a measure: never above what an attack leaves, null where nothing is proved, resumed exactly."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from helpers.networks.toy_problems import blobs, deterministic, run, tiny_spec, trainer

from trainables.attacks import ATTACKS, MissingExtraError, autoattack, require_package, square
from trainables.attacks.base import load_attack, run_attack
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.evaluate import Measures
from trainables.evaluation.trial import certified, measure, measured_part
from trainables.spec import LipschitzSpec

CPU = torch.device("cpu")


def attacks() -> list[str]:
    """Return every attack that can run here."""
    usable = []
    for name in ATTACKS:
        with contextlib.suppress(MissingExtraError):
            require_package(name)
            usable.append(name)
    return usable


def val_images(classes=3):
    data = blobs(classes=classes)
    return measured_part(data.val, 30, scale=data.scale, layout=torch.contiguous_format, device=CPU)


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "norm", "epsilon", "certify"),
    [
        ("cnn_small", "linf", 0.005, "ibp"),
        ("mlp", "linf", 0.03, "full"),
        ("mlp", "l2", 0.2, "full"),
        ("cnn_small", "l2", 0.02, "ibp"),
        ("lipschitz_cnn", "l2", 0.2, "ibp"),
    ],
)
def test_what_is_certified_no_attack_fools(model, norm, epsilon, certify, monkeypatch):
    """Example by example, by the attacks of the repository, on networks trained with batch norm and dropout."""
    # images of 64 pixels: most of the queries of both squares would be spent on single pixels
    monkeypatch.setattr(square, "QUERIES", 200)
    monkeypatch.setattr(autoattack, "SQUARE_QUERIES", 500)
    trained = run(tiny_spec("adversarial_training", train_epsilon=epsilon, name=model, norm=norm, epsilon=epsilon,
                            certify=certify, epochs=2, every=2, optimizer="adam", lr=0.01), classes=4)  # fmt: skip
    proved = torch.from_numpy(trained.best.measures.certified_correct)
    row = trained.outcome().row
    assert row["certify"] == certify
    assert 0 < row["val_certified_accuracy"] <= row["val_robust_accuracy"] <= row["val_clean_accuracy"]
    images, labels = val_images(classes=4)
    some = proved.nonzero().flatten()[:6]
    # AutoAttack takes half a minute of a convolutional network
    for name in (name for name in attacks() if model == "mlp" or name != "autoattack"):
        few = some[: {"autoattack": 1, "square": 2}.get(name)]
        robust, _ = run_attack(
            load_attack(name), trained.model, images[few], labels[few], seed=1,
            ascent=Ascent(ThreatModel(norm, epsilon), 10, 1 if name == "square" else 2),
        )  # fmt: skip
        assert robust.all(), name


def test_more_effort_proves_no_less_and_no_time_nothing():
    trained = run(tiny_spec(name="mlp", epsilon=0.05, epochs=3))
    images, labels = val_images()
    threat = ThreatModel("linf", 0.05)
    plain = measure(trained.model, images, labels, spec=trained.spec, split="val")
    assert plain.certified_correct is None
    efforts = [
        certified(plain, trained.model, images, labels, threat=threat, effort=effort).certified_correct
        for effort in ("ibp", "full")
    ]
    assert (efforts[0] <= efforts[1]).all()
    assert efforts[0].sum() < efforts[1].sum()
    assert (efforts[1] <= plain.robust_correct).all()
    late = certified(plain, trained.model, images, labels, threat=threat, effort="full", seconds=0.0)
    assert not late.certified_correct.any()
    assert late.certified_accuracy is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "helpers.networks.masked:shattered_gradients"}, "a network that cannot be read"),
        ({"name": "cnn_small", "epsilon": 0.5}, "a bound that proves nothing"),
        ({"name": "lipschitz_cnn", "batch_size": 32}, "no known constant in linf"),
    ],
)
def test_it_is_null_where_nothing_is_proved(changes, why):
    row = run(tiny_spec(certify="ibp", **({"epochs": 1} | changes)), train=32).outcome().row
    assert row["val_certified_accuracy"] is None, why
    assert row["certify"] == "ibp"


def test_without_it_the_row_says_so_and_nothing_else_changes():
    without, with_it = (run(tiny_spec(name="mlp", epsilon=0.02, certify=certify)) for certify in ("none", "ibp"))
    rows = [deterministic(trained.outcome().row) for trained in (without, with_it)]
    assert rows[0]["certify"] is None
    assert rows[0]["val_certified_accuracy"] is None
    certified_columns = ("certify", "val_certified_accuracy", "seconds_certify", "config_hash")
    assert all(rows[0][name] == rows[1][name] for name in rows[0] if name not in certified_columns)
    assert [epoch["val_certified_accuracy"] for epoch in without.history] == [None, None]
    assert with_it.history[-1]["val_certified_accuracy"] == rows[1]["val_certified_accuracy"] > 0


def test_full_effort_is_for_the_last_epoch(monkeypatch):
    from trainables.evaluation import trial

    efforts = []

    def certify(*arguments, effort, **options):
        efforts.append(effort)
        return trial_certified(*arguments, effort=effort, **options)

    trial_certified = trial.certified
    monkeypatch.setattr(trial, "certified", certify)
    run(tiny_spec(name="mlp", certify="full", epochs=3))
    assert efforts == ["ibp", "ibp", "full"]


def test_a_resumed_trial_has_the_same_row(tmp_path):
    spec = tiny_spec("adversarial_training", train_epsilon=0.02, epsilon=0.004, certify="ibp", epochs=4, every=2)
    whole = run(spec)
    first, second = trainer(spec), trainer(spec)
    for _ in range(3):
        first.run_epoch()
    first.save(tmp_path / "last.pt")
    second.load(tmp_path / "last.pt")
    second.run_epoch()
    names = ("val_certified_accuracy", "val_robust_accuracy", "certify")
    assert [whole.outcome().row[name] for name in names] == [second.outcome().row[name] for name in names]
    assert [e["val_certified_accuracy"] for e in whole.history] == [e["val_certified_accuracy"] for e in second.history]


def test_measures_that_were_saved_before_there_was_a_certificate_are_read():
    measures = Measures(
        clean_correct=np.ones(2, bool), robust_correct=np.ones(2, bool), loss=np.zeros(2), lipschitz=np.zeros(0),
        lipschitz_scale_free=None, flags=(), seconds_attack=0.0, seconds_lipschitz=0.0,
        certified_correct=np.array([True, False]),
    )  # fmt: skip
    saved = measures.to_dict()
    assert Measures.from_dict(saved).certified_accuracy == 0.5
    earlier = {name: value for name, value in saved.items() if "certif" not in name}
    assert Measures.from_dict(earlier).certified_accuracy is None
    assert dataclasses.replace(measures, certified_correct=np.zeros(2, bool)).certified_accuracy is None


def test_the_lipschitz_estimate_stays_below_the_networks_constant():
    spec = tiny_spec(name="lipschitz_cnn", norm="l2", epsilon=0.2, lipschitz=LipschitzSpec(steps=10, examples=8),
                     epochs=1, batch_size=32)  # fmt: skip
    row = run(spec).outcome().row
    assert row["val_lipschitz_max"] <= 1 / min(blobs().std) + 1e-6
