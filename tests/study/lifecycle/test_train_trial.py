"""`train`: one trial without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

SPEC = {
    "dataset": {"name": "digits", "train_size": 200},
    "method": "natural",
    "model": {"name": "mlp"},
    "training": {"epochs": 2, "lr": 100.0, "clip_norm": None, "warmup": 0.0, "batch_size": 8},
    "evaluation": {"epsilon": 0.1, "steps": 1, "examples": 20, "lipschitz": {"steps": 1, "restarts": 1, "examples": 5}},
}


def test_a_trial_that_diverges_is_shown_as_what_it_is(command) -> None:
    Path("spec.yaml").write_text(yaml.safe_dump(SPEC))
    code, out, err = command("train", "spec.yaml", "--json")
    row = json.loads(out)
    assert (code, row["status"], row["reason"]) == (0, "failed", "diverged")
    assert "epoch 1/2 · loss unknown · " in err
