"""One network in the wrappings of other training codes: measured as itself, or refused in one line with what to do."""

from __future__ import annotations

import argparse
import json
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from study.cli import main
from study.errors import UsageError
from study.evaluation.checkpoint_input import CheckpointRequest, prepare
from trainables.models import build_model

SHAPE = {"image_shape": (1, 8, 8), "num_classes": 10, "dropout": 0.0}
REQUEST = {
    "dataset": "digits", "data_root": None, "norm": "linf", "epsilon": 0.1, "attacks": (), "steps": 1, "restarts": 1,
    "limit": 20, "examples": None,
}  # fmt: skip
OWN_MODULE = """
import torch
from torch import nn

class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mu", torch.full((1, 1, 1, 1), 0.25))
        self.register_buffer("sigma", torch.full((1, 1, 1, 1), 0.5))
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(((x - self.mu) / self.sigma).flatten(1))

class Twofold(Centred):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(10, 10)

    def forward(self, x):
        return self.last(super().forward(x))
"""


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A bare network whose batch norm has statistics of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("cnn_small", mean=[0.0], std=[1.0], **SHAPE).network
        model.train()
        model(torch.rand(64, 1, 8, 8))
    return model.eval()


@pytest.fixture(scope="module")
def bare(network):
    return {name: value.contiguous() for name, value in network.state_dict().items()}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "centred_networks.py").write_text(OWN_MODULE)
    yield
    sys.modules.pop("centred_networks", None)


def prefixed(prefix, state):
    return OrderedDict((prefix + name, value) for name, value in state.items())


def logits(path, **changes):
    options = {"model": "cnn_small", "normalisation": None, "weights": None} | changes
    model, images, _ = prepare(CheckpointRequest(checkpoint=path, **REQUEST, **options))
    with torch.no_grad():
        return model(images), images


def is_itself(network, path, **changes):
    found, images = logits(path, **changes)
    with torch.no_grad():
        return torch.equal(found, network(images))


def refusal(path, **changes):
    with pytest.raises(UsageError) as caught:
        logits(path, **changes)
    (line,) = caught.value.problems
    assert "\n" not in line
    assert line.startswith(str(path))
    return line


# Names and places

PREFIXES = [
    "", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.model.", "model.", "net.",
    "network.", "module.basic_net.", "backbone.0.", "_fsdp_wrapped_module.", "a.b.c.d.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_wrappers_are_dropped(network, bare, prefix):
    torch.save(prefixed(prefix, bare), "net.pt")
    assert is_itself(network, "net.pt")


def test_a_part_that_was_compiled_or_sharded_is_renamed_within_the_network(network, bare):
    state = {
        f"{name.split('.')[0]}._orig_mod._fsdp_wrapped_module.{name.partition('.')[2]}": bare[name] for name in bare
    }
    torch.save(state, "net.pt")
    assert is_itself(network, "net.pt")


@pytest.mark.parametrize(
    "wrap",
    [
        *(lambda state, key=key: {key: state, "epoch": 3} for key in ("net", "params", "network", "ema", "model_ema")),
        lambda state: {"state": {"model": state, "step": torch.tensor(3)}, "best": 0.5},
        lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2.0", "loops": [1]},
        lambda state: {**state, "epoch": 3, "args": {"lr": 0.1}},
        lambda state: [state],
        lambda state: (state, 3),
        lambda state: {0: {"weights": state}, 1: {"momentum": torch.zeros(2)}},
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{}]}},
        lambda state: {"n_averaged": torch.tensor(3), **prefixed("module.", state)},
        lambda state: {"state_dict": {**prefixed("net.", state), "train_acc.total": torch.tensor(0)}},
        lambda state: {name: nn.Parameter(v) if v.is_floating_point() else v for name, v in state.items()},
        lambda state: {name: v.double() if v.is_floating_point() else v for name, v in state.items()},
        lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
        lambda state: {**prefixed("module.model.", state), **prefixed("module.attacker.model.", state)},
    ],
)  # fmt: skip
def test_any_place_of_the_weights_is_found(network, bare, wrap):
    torch.save(wrap(bare), "net.pt")
    assert is_itself(network, "net.pt")


def test_plain_values_beside_the_weights_are_no_obstacle(network, bare):
    beside = {
        "lr": np.float64(0.1), "best": np.float32(3), "seen": np.int64(4), "done": np.bool_(1), "half": np.float16(2),
        "hyper_parameters": argparse.Namespace(lr=0.1, name="a", inner=argparse.Namespace(best=np.float32(0.5))),
    }  # fmt: skip
    torch.save({"state_dict": bare, **beside}, "net.pt")
    assert is_itself(network, "net.pt")
    before = set(torch.serialization.get_safe_globals())
    torch.save({"state_dict": bare, **beside}, "old.pt", _use_new_zipfile_serialization=False)
    assert is_itself(network, "old.pt")
    assert set(torch.serialization.get_safe_globals()) == before


def test_numbers_that_an_older_numpy_saved(network, bare):
    torch.save({"state_dict": bare, "lr": np.float64(0.1)}, "new.pt", _use_new_zipfile_serialization=False)
    content = Path("new.pt").read_bytes()
    assert b"numpy._core.multiarray" in content
    Path("net.pt").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert is_itself(network, "net.pt")


def test_safetensors_are_read_whatever_their_name(network, bare):
    from safetensors.torch import save_file

    save_file(bare, "net.safetensors", metadata={"format": "pt"})
    Path("net.bin").write_bytes(Path("net.safetensors").read_bytes())
    assert is_itself(network, "net.safetensors")
    assert is_itself(network, "net.bin")
    Path("net.safetensors").write_bytes(Path("net.bin").read_bytes()[:-1])
    assert "cannot be read as safetensors" in refusal("net.safetensors")


# Several sets of weights


def test_of_sets_that_differ_one_must_be_named(network, bare, capsys):
    other = {name: value * 0 for name, value in bare.items()}
    torch.save({"state_dict": other, "ema": {"params": prefixed("module.", bare)}, "epoch": 3}, "net.pt")
    line = refusal("net.pt")
    assert line == (
        "net.pt holds different weights that fit, state_dict, ema/params/module: choose with --weights NAME"
    )
    assert is_itself(network, "net.pt", weights="ema/params/module")
    assert "net.pt: weights ema/params/module\n" in capsys.readouterr().err
    assert not is_itself(network, "net.pt", weights="state_dict")
    assert refusal("net.pt", weights="ema") == (
        "net.pt has no weights 'ema' that fit; it has: state_dict, ema/params/module"
    )


def test_equal_sets_count_as_one_and_sets_of_another_network_as_none(network, bare, capsys):
    torch.save({"model": bare, "ema": bare, "teacher": {"0.weight": torch.ones(3)}}, "net.pt")
    assert is_itself(network, "net.pt")
    assert "net.pt: weights model; ema holds the same\n" in capsys.readouterr().err


def test_two_networks_of_one_state_dict_are_told_apart_by_their_prefix(network, bare):
    teacher = {name: value + 1 for name, value in bare.items()}
    torch.save({**prefixed("student.", bare), **prefixed("teacher.", teacher)}, "net.pt")
    assert "student, teacher: choose with --weights NAME" in refusal("net.pt")
    assert is_itself(network, "net.pt", weights="student")


def test_a_trials_checkpoint_has_one_set(network, bare):
    whole = build_model("cnn_small", mean=[0.25], std=[0.5], **SHAPE)
    whole.network.load_state_dict(bare)
    spec = json.dumps({"model": {"name": "cnn_small"}})
    torch.save({"spec": spec, "model": whole.state_dict(), "unaveraged": prefixed("network.", bare)}, "trial.pt")
    found, images = logits("trial.pt")
    with torch.no_grad():
        assert torch.equal(found, whole.eval()(images))


# Normalisation


@pytest.mark.parametrize(
    "names",
    [
        ("mu", "sigma", ""),
        ("normalize.mean", "normalize.std", "model."),
        ("0.mean", "0.std", "1."),
        ("module.normalizer.new_mean", "module.normalizer.new_std", "module.model."),
    ],
)
def test_a_normalisation_beside_the_network_is_put_before_it(network, bare, capsys, names):
    mean, deviation, prefix = names
    constants = {mean: torch.full((1, 1, 1), 0.25), deviation: torch.full((1, 1, 1), 0.5)}
    torch.save({"state_dict": {**constants, **prefixed(prefix, bare)}}, "net.pt")
    found, images = logits("net.pt")
    with torch.no_grad():
        assert torch.equal(found, network((images - 0.25) / 0.5))
    assert "normalisation before it: the file's mean 0.25 and deviation 0.5 (--normalize)" in capsys.readouterr().err
    assert is_itself(network, "net.pt", normalisation="none")


@pytest.mark.parametrize(("mean", "deviation"), [([125.3], [63.0]), ([0.5, 0.5, 0.5], [0.2, 0.2, 0.2]), ([0.5], [0.0])])
def test_a_normalisation_that_does_not_suit_the_images_is_refused(bare, mean, deviation):
    torch.save({"mu": torch.tensor(mean), "sigma": torch.tensor(deviation), **bare}, "net.pt")
    assert "its normalisation must have a mean in [0, 1] and a deviation above 0 for each of 1 channels" in refusal(
        "net.pt"
    )


def test_constants_of_a_model_of_several_layers_are_kept(capsys):
    layers = nn.ModuleDict({"layer": nn.Linear(64, 10), "last": nn.Linear(10, 10)})
    torch.save({"state_dict": prefixed("module.", layers.state_dict())}, "net.pt")
    found, images = logits("net.pt", model="centred_networks:Twofold")
    assert torch.allclose(found, layers["last"](layers["layer"](((images - 0.25) / 0.5).flatten(1))))
    assert capsys.readouterr().err == "net.pt has no mu, sigma: those of --model are kept\n"


def test_constants_that_only_the_users_own_model_has_are_kept(capsys):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(64, 10)
    torch.save({"state_dict": prefixed("module.layer.", layer.state_dict())}, "without.pt")
    found, images = logits("without.pt", model="centred_networks:Centred")
    expected = layer(((images - 0.25) / 0.5).flatten(1))
    assert torch.allclose(found, expected)
    assert "without.pt has no mu, sigma: those of --model are kept" in capsys.readouterr().err
    both = {"normalizer.mean": torch.ones(1), "normalizer.std": torch.ones(1), **prefixed("layer.", layer.state_dict())}
    torch.save(both, "both.pt")
    assert "has a normalisation beside the network and --model has its own" in refusal(
        "both.pt", model="centred_networks:Centred"
    )
    found, _ = logits("both.pt", model="centred_networks:Centred", normalisation="none")
    assert torch.allclose(found, expected)
    assert "both.pt has no mu, sigma: those of --model are kept" in capsys.readouterr().err
    own = {"mu": torch.full((1, 1, 1, 1), 0.125), "sigma": torch.ones(1, 1, 1, 1)}
    torch.save({**own, **prefixed("layer.", layer.state_dict())}, "with.pt")
    found, images = logits("with.pt", model="centred_networks:Centred")
    assert torch.allclose(found, layer((images - 0.125).flatten(1)))
    assert capsys.readouterr().err == ""


# What is refused


def changed(state, value):
    name = next(name for name in state if name.endswith("weight"))
    return {**state, name: value(state[name])}


@pytest.mark.parametrize(
    ("wrap", "line"),
    [
        (lambda state: {0: torch.zeros(2)}, "holds no state dict: expected names mapped to tensors, got a mapping"),
        (lambda state: torch.zeros(2), "holds no state dict: expected names mapped to tensors, got Tensor"),
        (lambda state: changed(state, lambda value: value * float("nan")), "values that are not finite"),
        (lambda state: changed(state, lambda value: value.double() * 1e300), "not finite in float32"),
        (lambda state: changed(state, lambda value: (value * 100).to(torch.int8)), "int8 instead of float32"),
        (lambda state: {**state, "criterion.weight": torch.ones(10)}, "unexpected: criterion.weight (leave them"),
        (lambda state: {**prefixed("net.", state), "head.bias": torch.ones(3)}, "unexpected: head.bias (leave them"),
        (lambda state: prefixed("model.", dict(list(state.items())[1:])), "does not fit the model: missing: "),
        (lambda state: {"mu": torch.ones(1), **state}, "unexpected: mu (leave them out of the file"),
    ],
)  # fmt: skip
def test_weights_that_are_not_this_networks_are_refused(bare, wrap, line):
    torch.save(wrap(bare), "net.pt")
    assert line in refusal("net.pt")


def test_weights_in_eight_bits_are_measured(bare):
    few = torch.float8_e4m3fn
    eighth = {name: value.to(few) if value.is_floating_point() else value for name, value in bare.items()}
    torch.save(eighth, "net.pt")
    torch.save({name: value.to(bare[name].dtype) for name, value in eighth.items()}, "full.pt")
    assert torch.equal(logits("net.pt")[0], logits("full.pt")[0])


def test_the_command_takes_the_name_of_the_weights(network, bare, monkeypatch, capsys):
    torch.save({"model": {name: value * 0 for name, value in bare.items()}, "ema": bare}, "net.pt")
    words = ["--checkpoint", "net.pt", "--model", "cnn_small", "--dataset", "digits", "--epsilon", "0.1"]
    words += ["--attack", "pgd", "--limit", "4", "--steps", "1", "--json"]
    monkeypatch.setattr(sys, "argv", ["robust-study", "evaluate", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "choose with --weights NAME" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["robust-study", "evaluate", *words, "--weights", "ema"])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    assert not caught.value.code, captured.err
    assert "net.pt: weights ema" in captured.err
    assert json.loads(captured.out)["examples"] == 4
