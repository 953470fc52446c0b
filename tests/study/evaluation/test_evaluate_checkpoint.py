"""`evaluate --checkpoint`: any torch checkpoint measured, and one clear line for what cannot be."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks.trained import trained_digits
from torch import nn

from study.cli import main
from trainables.attacks import ATTACKS
from trainables.checkpoints import weight_files
from trainables.checkpoints.format import CheckpointError, write_checkpoint
from trainables.checkpoints.weights import load_weights, read_weights, write_arrays

FEW = ["--dataset", "digits", "--epsilon", "0.05", "--limit", "8", "--steps", "2", "--attack", "pgd"]
OPTIONS = ["--dataset", "digits", "--epsilon", "0.05", "--limit", "30", "--steps", "3", "--attack", "multi_targeted"]

OWN_MODULE = """
from torch import nn

def own():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

def colour():
    return nn.Conv2d(3, 10, 3)

def nothing():
    return None

def needs(width):
    return own()

def seven():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))

def halves():
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 32)), nn.Sequential(nn.ReLU(), nn.Linear(32, 10)))

def breaks():
    raise KeyError("width")

def flat():
    return nn.Sequential(nn.BatchNorm1d(64))

def former(model, x, y, /, *, threat, steps, restarts, generator):
    from trainables.attacks.pgd import pgd
    from trainables.attacks.threat import Ascent

    return pgd(model, x, y, ascent=Ascent(threat, steps, restarts), generator=generator)

number = 3
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "users_own_networks.py").write_text(OWN_MODULE)
    (tmp_path / "users_broken_networks.py").write_text("def own(:")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["robust-study", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    yield run
    sys.modules.pop("users_own_networks", None)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained_digits()[0]


def measured(command, *words, options=FEW):
    code, out, err = command(*words, *options, "--json")
    assert code == 0, err
    return json.loads(out), err


def test_state_dict_is_measured_as_a_table_and_as_json(command, network):
    torch.save(network.state_dict(), "net.pt")
    found, err = measured(command, "--checkpoint", "net.pt", "--model", "mlp", options=OPTIONS)
    robust = found["robust_accuracy"]
    assert found["examples"] == 30
    assert found["split"] == "test"
    model, images, labels = trained_digits()
    with torch.no_grad():
        correct = model(images[:30]).argmax(1) == labels[:30]
    assert found["clean_accuracy"] == pytest.approx(correct.double().mean().item())
    assert list(robust) == ["fgsm", "pgd", "multi_targeted"]
    assert found["clean_accuracy"] >= max(robust.values())
    assert found["robust_accuracy_worst_case"] <= min(robust.values())
    assert found["certified_examples"] == 30
    assert found["certified_robust_accuracy"] <= found["robust_accuracy_worst_case"]
    assert found["certified_lipschitz_mean"] >= found["lipschitz_mean"] > 0
    assert isinstance(found["flags"], dict)
    assert "pgd: 30 images" in err
    assert found["lipschitz_mean_of_these"] == pytest.approx(found["lipschitz_mean"])
    code, out, _ = command("--checkpoint", "net.pt", "--model", "mlp", *OPTIONS, "--examples", "each.npz")
    assert code == 0
    each = np.load("each.npz")
    assert (each["certified"] <= each["multi_targeted"]).all()
    assert (each["certified"] <= each["pgd"]).all()
    assert each["pgd"].mean() == pytest.approx(robust["pgd"])
    witness = torch.from_numpy(each["witness"])
    with torch.no_grad():
        rise = (model(witness) - model(images[:30])).abs().sum(1)
    ratio = rise / (witness - images[:30]).flatten(1).abs().amax(1)
    assert torch.allclose(ratio.double(), torch.from_numpy(each["lipschitz"]), rtol=1e-3)
    assert (each["lipschitz"] <= each["certified_lipschitz"] + 1e-6).all()
    for words in ("under multi_targeted", "under all of them", "lipschitz scale free mean", "3 steps x 1 restarts"):
        assert words in out
    assert "flags" in out


def test_checkpoint_of_a_trial_and_other_wrappings_give_the_same(command, network):
    weights = network.state_dict()
    files = {
        "plain.pt": weights,
        "nested.pt": {"epoch": 3, "state_dict": weights},
        "parallel.pt": {f"module.{name}": value for name, value in weights.items()},
    }
    for name, tree in files.items():
        torch.save(tree, name)
    write_checkpoint("last.pt", {"spec": json.dumps({"model": {"name": "mlp"}}), "model": weights, "epoch": 3})
    write_arrays(Path("arrays.npz"), network)
    names = (*files, "last.pt", "arrays.npz")
    found = [measured(command, "--checkpoint", name, "--model", "mlp")[0] for name in names]
    for one in found:
        del one["checkpoint"], one["seconds"]
    assert all(one == found[0] for one in found)


def test_bare_network_says_what_normalisation_it_gets(command, network):
    torch.save(network.network.state_dict(), "bare.pt")
    with_data, err = measured(command, "--checkpoint", "bare.pt", "--model", "mlp", "--normalize", "data")
    assert "bare network" in err
    assert "--normalize" in err
    torch.save(network.state_dict(), "whole.pt")
    whole, err = measured(command, "--checkpoint", "whole.pt", "--model", "mlp")
    assert "bare network" not in err
    plain, _ = measured(command, "--checkpoint", "bare.pt", "--model", "mlp")
    assert with_data["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert plain["loss"] != pytest.approx(whole["loss"], rel=1e-2)


def test_network_of_the_users_own_in_l2(command, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    torch.save(net.state_dict(), "own.pt")
    words = ("--checkpoint", "own.pt", "--model", "users_own_networks:own", "--norm", "l2")
    found, _ = measured(command, *words, options=OPTIONS)
    assert found["norm"] == "l2"
    images, labels = trained_digits()[1:]
    expected = (net(images[:30]).argmax(1) == labels[:30]).double().mean().item()
    assert found["clean_accuracy"] == pytest.approx(expected)


def test_attack_of_the_users_own_with_the_former_signature(command, network):
    torch.save(network.state_dict(), "net.pt")
    own = ("--attack", "users_own_networks:former")
    found, _ = measured(command, "--checkpoint", "net.pt", "--model", "mlp", options=[*FEW[:-2], *own])
    robust = found["robust_accuracy"]
    assert robust["users_own_networks:former"] == robust["pgd"] <= found["clean_accuracy"]


def test_radius_as_a_fraction(command, network):
    torch.save(network.state_dict(), "net.pt")
    words = ["--checkpoint", "net.pt", "--model", "mlp", "--dataset", "digits", "--limit", "3", "--steps", "1"]
    code, out, _ = command(*words, "--epsilon", "8/255", "--attack", "pgd", "--json")
    assert code == 0
    assert json.loads(out)["epsilon"] == 8 / 255
    assert list(json.loads(out)["robust_accuracy"]) == ["fgsm", "pgd"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"--checkpoint": "no.pt"}, "checkpoint no.pt is not a file"),
        ({"--checkpoint": "text.pt"}, "text.pt cannot be loaded as weights only"),
        ({"--checkpoint": "pickled.pt"}, "save a state dict: torch.save(model.state_dict(), 'pickled.pt')"),
        ({"--checkpoint": "list.pt"}, "list.pt holds no state dict"),
        (
            {"--checkpoint": "numbers.pt"},
            "numbers.pt holds no state dict: expected names mapped to tensors, got a mapping",
        ),
        ({"--checkpoint": "other.pt"}, "other.pt does not fit the model: missing: 1.weight"),
        ({"--checkpoint": "narrow.pt"}, "network.1.weight (3, 64) instead of (256, 64)"),
        ({"--checkpoint": "trial.pt"}, "trial.pt holds model cnn_small, got --model mlp"),
        ({"--model": "mpl"}, "unknown model 'mpl' (did you mean mlp?)"),
        ({"--model": "cnn2"}, "cnn2 takes images of 28x28, got 8x8"),
        ({"--model": "users_own_networks:nothing"}, "must return a torch.nn.Module, got NoneType"),
        ({"--model": "users_own_networks:needs"}, "must take no arguments: missing a required argument: 'width'"),
        ({"--model": "users_own_networks:gone"}, "cannot be imported"),
        ({"--model": "users_own_networks:colour", "--checkpoint": "colour.pt"}, "does not take images of 1x8x8"),
        ({"--model": "users_own_networks:seven", "--checkpoint": "seven.pt"}, "must map 2 images to logits (2, 10)"),
        ({"--model": "users_own_networks:breaks"}, "cannot be built: KeyError: 'width'"),
        ({"--model": "users_own_networks:flat", "--checkpoint": "flat.pt"}, "does not take images of 1x8x8: expected"),
        (
            {"--model": "users_own_networks:halves", "--checkpoint": "half.pt"},
            "half.pt does not fit the model: missing",
        ),
        ({"--model": "users_broken_networks:own"}, "cannot be imported: SyntaxError"),
        ({"--checkpoint": "theirs.pt", "--model": "mpl"}, "unknown model 'mpl'"),
        ({"--attack": "users_own_networks:gone"}, "--attack: attack 'users_own_networks:gone' cannot be imported"),
        ({"--attack": "users_own_networks:number"}, "must be a Python function or class, got int"),
        ({"--dataset": "users_own_networks:number"}, "must be a Python function or class, got int"),
        ({"--dataset": "users_own_networks:own"}, "must take one positional argument: too many positional"),
        ({"--examples": "no/where.npz"}, "--examples: folder no does not exist"),
        ({"--dataset": "digitz"}, "unknown data set 'digitz' (did you mean digits?)"),
        ({"--epsilon": "8"}, "--epsilon must be in (0, 1] for linf, got 8 (did you mean 8/255?)"),
        ({"--epsilon": "0"}, "--epsilon must be in (0, 1] for linf, got 0"),
        ({"--epsilon": "9", "--norm": "l2"}, "--epsilon must be in (0, 8] for l2, got 9"),
        ({"--epsilon": "much"}, "--epsilon must be a number or a fraction such as 8/255, got 'much'"),
        ({"--attack": "pdg"}, "--attack: unknown attack 'pdg' (did you mean pgd?)"),
    ],
)
def test_bad_input_is_one_line(command, network, changes, line):
    name = changes.get("--checkpoint", "net.pt")
    weights = network.state_dict()
    narrow = {key: value[:3] if key == "network.1.weight" else value for key, value in weights.items()}
    trees = {
        "net.pt": weights, "pickled.pt": network, "list.pt": [1, 2], "numbers.pt": {"epoch": 3}, "narrow.pt": narrow,
        "other.pt": {"0.weight": torch.ones(1)}, "colour.pt": nn.Conv2d(3, 10, 3).state_dict(),
        "flat.pt": nn.Sequential(nn.BatchNorm1d(64)).state_dict(), "theirs.pt": {"spec": "a", "model": weights},
        "half.pt": nn.Sequential(nn.Flatten(), nn.Linear(64, 32)).state_dict(),
        "seven.pt": nn.Sequential(nn.Flatten(), nn.Linear(64, 7)).state_dict(),
        "trial.pt": {"spec": json.dumps({"model": {"name": "cnn_small"}}), "model": weights},
    }  # fmt: skip
    if name in trees:
        torch.save(trees[name], name)
    elif name == "text.pt":
        with open(name, "w") as file:
            file.write("no checkpoint")
    options = {"--checkpoint": name, "--model": "mlp", "--dataset": "digits", "--epsilon": "0.1", "--attack": "pgd"}
    code, out, err = command(*(word for pair in (options | changes).items() for word in pair))
    assert code == 2
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


def test_missing_autoattack_is_an_error_when_asked_for_and_a_note_otherwise(command, network, monkeypatch):
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyautoattack" else find_spec(name))
    torch.save(network.state_dict(), "net.pt")
    words = ["--checkpoint", "net.pt", "--model", "mlp", "--dataset", "digits", "--limit", "4", "--steps", "1"]
    code, _, err = command(*words, "--epsilon", "0.05", "--attack", "autoattack")
    assert code == 2
    assert "pip install '.[autoattack]'" in err
    assert err.count("\n") == 1
    code, out, err = command(*words, "--epsilon", "0.05", "--json")
    assert code == 0
    assert "left out: attack autoattack" in err
    assert list(json.loads(out)["robust_accuracy"]) == [
        name for name in ATTACKS if name not in ("apgd_t", "autoattack")
    ]


def test_train_saves_what_evaluate_reads(command, monkeypatch, capsys, tmp_path):
    (tmp_path / "spec.yaml").write_text(
        "dataset: {name: digits, train_size: 100}\nmethod: natural\nmodel: {name: mlp}\n"
        "training: {epochs: 1}\nevaluation: {steps: 1, examples: 5, lipschitz: {steps: 1, examples: 2}}\n"
    )
    monkeypatch.setattr(sys, "argv", ["robust-study", "train", "spec.yaml", "--save", "net.pt", "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    captured = capsys.readouterr()
    assert "wrote net.pt" in captured.err
    assert json.loads(captured.out)["status"] == "completed"
    found, _ = measured(command, "--checkpoint", "net.pt", "--model", "mlp")
    assert math.isfinite(found["loss"])
    monkeypatch.setattr(sys, "argv", ["robust-study", "train", "spec.yaml", "--save", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "--save must name a file" in capsys.readouterr().err


# Reading and placing weights


def test_counters_of_batch_norm_may_be_missing(tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(1))
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    state["0.weight"] = torch.full((1,), 7.0)
    torch.save(state, tmp_path / "old.pt")
    read, spec = read_weights(tmp_path / "old.pt")
    assert spec is None
    assert load_weights(model, read, source="old.pt") is None
    assert model[0].weight.item() == 7


def test_arrays_larger_than_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "large.npz", weight=np.zeros(100_000))
    monkeypatch.setattr(weight_files, "physical_memory", lambda: 799_999)
    with pytest.raises(CheckpointError, match=r"large.npz holds 800,128 bytes of arrays, more than this machine's"):
        read_weights(tmp_path / "large.npz")


def test_arrays_of_objects_are_refused_and_numbers_of_any_kind_are_not(tmp_path):
    np.savez(tmp_path / "pickled.npz", weight=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("no arrays")
    for name in ("pickled.npz", "text.npz"):
        with pytest.raises(CheckpointError, match=rf"{name} cannot be read as NumPy arrays without a pickle"):
            read_weights(tmp_path / name)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    write_arrays(tmp_path / "own.npz", model)
    state, spec = read_weights(tmp_path / "own.npz")
    assert spec is None
    wanted = model.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {name: value.dtype for name, value in wanted.items()}
    assert all(torch.equal(state[name], value) for name, value in wanted.items())


def test_what_does_not_fit_changes_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = dict(before) | {"0.weight": torch.ones(9, 9), "2.bias": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"unexpected: 2\.bias; of another shape: 0\.weight \(9, 9\)"):
        load_weights(model, state, source="x.pt")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
