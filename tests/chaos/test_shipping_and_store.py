"""A cluster whose nodes have another revision of the code and no shared folder: a study runs nevertheless."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.services.object_store import bucket
from helpers.services.ray_cluster import cluster
from helpers.studies.small_study import SmallStudy

from study.directory.checkpoint_folder import read_owner
from trainables.checkpoints import files
from trainables.checkpoints.weights import read_weights

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parents[2]

# A package of the same name that the nodes find first and that cannot be imported.
OTHER_REVISION = "raise ImportError('this is another revision')\n"

# A user's own model, in the working folder only.
MODEL = """
from torch import nn


def tiny(*, image_shape, num_classes, dropout, **options):
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels * height * width, num_classes))
"""

CHANGES = {
    "model": {"name": "my_model:tiny"},
    "training": {"epochs": 2},
    "search": {"num_trials": 2, "methods": ["natural"]},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ship")
    package = folder / "other" / "trainables"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(OTHER_REVISION)
    with bucket("studies") as url, pytest.MonkeyPatch.context() as patched:
        here = folder / "here"
        path = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        # the rest is this tree's on the nodes too, also where another one is installed
        patched.setenv("PYTHONPATH", os.pathsep.join([str(folder / "other"), str(ROOT)]))
        with cluster(2, "--num-cpus", "1") as ray:
            changes = {**CHANGES, "storage": {"checkpoints": f"{url}/small"}}
            study = SmallStudy(here, changes, environment=ray.driver_environment | path)
            (here / "my_model.py").write_text(MODEL)
            doctor = study.call("doctor", "study.yaml", "--address", ray.address, "--json")
            driver = study.launch("--address", ray.address)
            code = driver.wait(400)
        yield study, doctor, code, f"{url}/small"


def test_the_study_runs_on_shipped_code(finished):
    study, _, code, _ = finished
    assert code == 0, study.output
    assert [row["status"] for row in study.rows()] == ["completed", "completed"]
    assert {row["model"] for row in study.rows()} == {"my_model:tiny"}
    (line,) = [line for line in study.output.splitlines() if line.startswith("shipping ")]
    # the user's module needs no shipping: Ray adds the driver's working folder, which these nodes can read
    assert "trainables" in line
    assert "my_model" not in line


def test_the_bucket_has_complete_checkpoints_and_nothing_else(finished):
    from pyarrow import fs

    study, _, _, url = finished
    for row in study.rows():
        assert row["checkpoint_path"] == f"{url}/{read_owner(study.dir).folder}/{row['trial_id']}"
        assert files.exists(f"{row['checkpoint_path']}/best.pt")
        _, spec = read_weights(f"{row['checkpoint_path']}/last.pt")
        assert spec["method"] == "natural"
    system, path = fs.FileSystem.from_uri(url)
    entries = system.get_file_info(fs.FileSelector(path, recursive=True))
    assert {entry.base_name for entry in entries if entry.type == fs.FileType.File} == {
        "last.pt", "best.pt", "owner.json"
    }  # fmt: skip
    assert not (study.dir / "checkpoints").exists()


def test_no_secret_is_in_any_file_of_the_study(finished):
    study, _, _, _ = finished
    for path in study.folder.rglob("*"):
        if path.is_file():
            assert b"a-test-secret" not in path.read_bytes(), path


def test_doctor_reports_shipped_code_and_that_every_node_reaches_the_bucket(finished):
    _, doctor, _, url = finished
    checks = json.loads(doctor.stdout)["checks"]
    versions = [check for check in checks if check["check"] == "versions" and check["node"] != "here"]
    assert sum("another revision of trainables" in check["said"] for check in versions) == 3
    stores = [check for check in checks if check["check"] == "storage"]
    assert len(stores) == 4
    assert all(check["ok"] and url in check["said"] for check in stores)
