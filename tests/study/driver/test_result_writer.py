"""ResultWriter handles hyperparameters of every kind and writes both checkpoints' outcomes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from helpers.networks.toy_problems import blobs, tiny_spec

from analysis.data.results import read_examples, read_results
from analysis.fronts.front import hypervolume, non_dominated
from analysis.fronts.objectives import FRONT, values
from study.driver.result_writer import ResultWriter
from study.tracking.row_mapping import differing_params, param_text, params
from trainables.attacks.losses import cross_entropy
from trainables.methods.base import LossTerms, Step
from trainables.settings import setting
from trainables.spec import TrialSpec
from trainables.training.fit import fit

METHOD = "plugin_of_a_user:Weighted"


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """CE(x) times a weight, with settings of every other kind."""

    attacks: ClassVar[bool] = False
    weight: float = setting(1.0, doc="a number", low=0.0, high=2.0, search=(0.5, 1.5))
    times: int = setting(1, doc="an integer", low=1, high=3)
    kind: str = setting("plain", doc="a name", choices=("plain", "fancy"))
    quick: bool = setting(True, doc="a flag", choices=(False, True))
    source: str | None = setting(None, doc="may be absent")

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in one part."""
        return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)}, {"clean": self.weight * self.times})


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(sys.modules, "plugin_of_a_user", sys.modules[__name__])
    spec = tiny_spec(METHOD, params={"weight": 0.5, "kind": "fancy"}, epochs=3)
    return {"trial_id": "00000", "number": 0, "proposal": "random", "spec": spec.to_dict()}, spec


def test_hyperparameters_that_are_not_numbers_are_written(config, tmp_path):
    tree, spec = config
    writer = ResultWriter(tmp_path, study="s")
    writer.record(tree, fit(spec, data=blobs(), device="cpu"), status="completed", run_id=None)
    (row,) = read_results(tmp_path).to_pylist()
    assert (row["param.weight"], row["param.times"]) == (0.5, 1.0)
    assert json.loads(row["options"]) == {"kind": "fancy", "quick": True}
    assert not {"param.kind", "param.quick", "param.source"} & set(row)
    assert params(writer.spec_columns_of(tree))["options"] == row["options"]


def test_the_parameters_logged_at_the_start_are_still_right_at_the_end(tmp_path):
    """MLflow keeps a parameter's first value, so a parameter must not depend on the measurement."""
    tree = tiny_spec(epochs=1).to_dict()
    tree["evaluation"] |= {"examples": 10_000, "lipschitz": tree["evaluation"]["lipschitz"] | {"examples": 10_000}}
    config = {"trial_id": "00000", "number": 0, "proposal": "random", "spec": tree}
    writer = ResultWriter(tmp_path, study="s")
    opened = {name: param_text(value) for name, value in params(writer.spec_columns_of(config)).items()}
    outcome = fit(TrialSpec.from_dict(tree), data=blobs(), device="cpu")
    row = writer.record(config, outcome, status="completed", run_id=None)
    assert row["examples"] < 10_000
    assert [name for name in differing_params(opened, row) if name in opened] == []


def test_outcomes_of_both_checkpoints_are_written(config, tmp_path):
    tree, spec = config
    ResultWriter(tmp_path, study="s").record(
        tree, fit(spec, data=blobs(), device="cpu"), status="completed", run_id=None
    )
    (row,) = read_results(tmp_path).to_pylist()
    examples = read_examples(tmp_path).to_pylist()
    parts = {(e["checkpoint"], e["split"]) for e in examples}
    assert parts == {("last", "train"), ("last", "val"), ("best", "val")}
    for checkpoint, prefix in (("last", "val"), ("best", "best_val")):
        measured = [e for e in examples if (e["checkpoint"], e["split"]) == (checkpoint, "val")]
        for kind in ("clean", "robust"):
            assert sum(e[f"{kind}_correct"] for e in measured) / len(measured) == row[f"{prefix}_{kind}_accuracy"]
    assert row["best_epoch"] in (1, 2, 3)


def test_a_failure_is_a_row_too(config, tmp_path):
    writer = ResultWriter(tmp_path, study="s")
    writer.record_failure(config[0], reason="out of memory", traceback="", run_id=None)
    (row,) = read_results(tmp_path).to_pylist()
    assert row["best_epoch"] is None
    assert json.loads(row["options"])["kind"] == "fancy"


def test_every_file_has_every_methods_columns_for_any_parquet_reader(tmp_path):
    import pyarrow.dataset

    writer = ResultWriter(tmp_path, study="s", methods=["natural", "trades"])
    for number, method in enumerate(("natural", "trades")):
        spec = tiny_spec(method, train_epsilon=0.1 if method == "trades" else None, epochs=1)
        tree = {"trial_id": f"{number:05d}", "number": number, "proposal": "random", "spec": spec.to_dict()}
        writer.record_failure(tree, reason="test", traceback="", run_id=None)
    rows = pyarrow.dataset.dataset(tmp_path / "results").to_table().to_pylist()
    assert [row["param.beta"] for row in sorted(rows, key=lambda row: row["number"])] == [None, 6.0]


def test_the_running_count_equals_counting_everything_again(tmp_path):
    writer = ResultWriter(tmp_path, study="s")
    standing = writer.standing
    draw = np.random.default_rng(0)
    rows = []
    for number in range(120):
        clean, robust = draw.integers(0, 30, size=2) / 30
        status = ["completed", "completed", "failed", "stopped_early"][number % 4]
        measured = {"val_clean_accuracy": clean, "val_robust_accuracy": None if number % 13 == 0 else robust}
        rows.append(
            {
                "trial_id": f"{number:05d}",
                "number": number,
                "status": status,
                "flags": ["doubt"] * (number % 7 == 0),
                **measured,
            }
        )
        writer._count(rows[-1])
        completed = [row for row in rows if row["status"] == "completed" and not row["flags"]]
        points = [values(row, FRONT) for row in completed]
        if points:
            front = non_dominated(points, maximise=True)
            assert len(writer.standing.front) == front.sum()
            assert writer.standing.front.trial_ids == [
                row["trial_id"] for row, is_on in zip(completed, front, strict=True) if is_on
            ]
            volume = hypervolume(points, reference=(0.0, 0.0), maximise=True)
            assert standing.metrics()["hypervolume"] == pytest.approx(volume.value)
    assert (len(writer.rows), standing.failed, standing.metrics()["trials_stopped_early"]) == (
        120,
        30,
        30,
    )
