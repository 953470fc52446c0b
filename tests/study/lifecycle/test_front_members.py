"""A front member's run: figures, weights, and a model that loads without unpickling and predicts the same."""

from __future__ import annotations

import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from helpers.studies.synthetic_results import as_table
from helpers.studies.tracked import row, tracker

from analysis.data.compaction import compact
from analysis.data.results import read_results, trial_file, write_rows
from analysis.data.schema import EPOCH, RESULT
from study.config.schema import parse_config
from study.lifecycle.front_members import RADII, publish_members
from study.reports.radius_curves import front_curves
from study.tracking.row_mapping import TRIAL_TAG
from trainables.checkpoints.weights import read_weights
from trainables.data import load_dataset
from trainables.training.loop import Trainer

# half a minute of tracing and loading models, so it runs with the tests of MLflow's UI
pytestmark = pytest.mark.browser

CONFIG = {
    "name": "s",
    "dataset": {"name": "digits", "train_size": 64},
    "model": {"name": "mlp", "dropout": 0.3},
    "training": {"epochs": 1, "batch_size": 32},
    "evaluation": {"epsilon": 0.1, "steps": 2, "examples": 16, "lipschitz": {"steps": 1, "examples": 4}},
    "search": {"space": "core"},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A tracked study of one real trial, published; the trial's network; the client."""
    root = tmp_path_factory.mktemp("members")
    folder, uri = root / "study", f"sqlite:///{root / 'mlflow.db'}"
    config = parse_config(CONFIG)
    spec = config.trial_spec({"method": "natural"}, number=0)
    trainer = Trainer(spec, data=load_dataset(spec.dataset))
    trainer.run_epoch()
    trainer.save_checkpoints(folder / "checkpoints/00000")
    outcome = trainer.outcome()
    own = {"study": "s", "trial_id": "00000", "number": 0}
    written = {**row(0), **outcome.row, **own, "flags": [], "checkpoint_path": str(folder / "checkpoints/00000")}
    epochs = [{**own, **epoch} for epoch in outcome.epochs]
    write_rows(trial_file(folder, "00000", schema=EPOCH), epochs, EPOCH)
    write_rows(trial_file(folder, "00000"), [written], RESULT)
    gone = {**written, "trial_id": "00001", "number": 1, "checkpoint_path": str(folder / "nowhere")}
    write_rows(trial_file(folder, "00001"), [gone], RESULT)
    compact(folder)  # as at the end of a study
    for _ in range(2):  # the second time nothing is written or logged again
        tracking = tracker(folder, uri)
        tracking.start({}, {"study": "s"})
        tracking.settle([written, gone])
        publish_members(config, folder, as_table([written, gone]), tracker=tracking)
        assert tracking.close("FINISHED", timeout=120) is None
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    runs = {run.data.tags[TRIAL_TAG]: run for run in client.search_runs(["1"])}
    return folder, trainer.measured.eval(), client, runs


def test_the_run_has_figures_and_weights_of_the_network(published, capsys):
    _, _, client, runs = published
    names = {folder: [item.path for item in client.list_artifacts(runs["00000"].info.run_id, folder)]
             for folder in ("figures", "weights")}  # fmt: skip
    files = ("accuracy_against_epsilon.csv", "accuracy_against_epsilon.png", "best_against_last.png",
             "clean_and_attacked.png")  # fmt: skip
    assert names["figures"] == [f"figures/{name}" for name in files]
    assert names["weights"] == ["weights/weights.npz"]
    assert client.list_artifacts(runs["00001"].info.run_id, "figures") == []  # its checkpoint is missing


def test_the_members_curve_is_read_back(published):
    folder, _, _, _ = published
    table = read_results(folder)
    measured, gone = front_curves(table, folder)
    stored = table.to_pylist()[0]
    assert (measured.trial_id, measured.attack, measured.measured, gone.measured) == (
        "00000",
        "reachable targets-2",
        True,
        False,
    )
    assert measured.radii == pytest.approx([0.1 * share for share in RADII])
    assert measured.examples == 144  # the whole validation split, below the limit of 200
    assert list(measured.accuracies) == sorted(measured.accuracies, reverse=True)
    assert gone.radii == (0.0, 0.1)
    assert gone.accuracies == (stored["val_clean_accuracy"], stored["val_robust_accuracy"])


def test_the_model_predicts_the_same_and_loads_without_unpickling(published, monkeypatch):
    import mlflow

    _, network, client, runs = published
    (model,) = client.search_logged_models(["1"])
    assert model.source_run_id == runs["00000"].info.run_id
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        for uri in (f"models:/{model.model_id}", f"runs:/{runs['00000'].info.run_id}/model"):
            loaded = mlflow.pytorch.load_model(uri)
            with torch.no_grad():
                np.testing.assert_allclose(loaded(torch.from_numpy(images)).numpy(), expected, atol=1e-5)
        scored = mlflow.pyfunc.load_model(uri)
        np.testing.assert_allclose(scored.predict(images), expected, atol=1e-5)
        assert scored.metadata.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
        assert scored.input_example.shape == (2, 1, 8, 8)
        with pytest.raises(mlflow.MlflowException):
            scored.predict(np.zeros((2, 3, 8, 8), dtype=np.float32))
    finally:
        mlflow.set_tracking_uri(None)


def test_the_weights_load_without_unpickling_and_equal_the_networks(published):
    folder, network, _, _ = published
    file = folder / "tracking/members/00000/weights.npz"
    with np.load(file, allow_pickle=False) as arrays:
        assert set(arrays.files) == set(network.state_dict())
    state, _ = read_weights(file)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert {name.rpartition(".")[2] for name in ZipFile(file).namelist()} == {"npy"}


def test_modules_that_drivers_import_early_do_not_import_mlflow():
    code = "import study.tracking.tracker, study.config.values, sys; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
