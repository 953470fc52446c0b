"""A cluster whose nodes have another revision of our code and no shared folder: both are got round."""

from __future__ import annotations

import json
import os

import pytest
from helpers.services.object_store import bucket
from helpers.services.ray_cluster import cluster
from helpers.studies.small_study import SmallStudy

from trainables.checkpoints import files
from trainables.checkpoints.weights import read_weights

pytestmark = pytest.mark.chaos

# Where the nodes look first: a package of our name in which nothing of ours is found.
STRANGER = "raise ImportError('this is another revision')\n"

# A model of the user's own, in their working folder only.
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
    strangers = folder / "strangers" / "trainables"
    strangers.mkdir(parents=True)
    (strangers / "__init__.py").write_text(STRANGER)
    with bucket("studies") as url, pytest.MonkeyPatch.context() as patched:
        here = folder / "here"
        path = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        patched.setenv("PYTHONPATH", str(folder / "strangers"))
        with cluster(2, "--num-cpus", "1") as ray:
            changes = {**CHANGES, "storage": {"checkpoints": f"{url}/small"}}
            study = SmallStudy(here, changes, environment=ray.driver_environment | path)
            (here / "my_model.py").write_text(MODEL)
            examined = study.call("doctor", "study.yaml", "--address", ray.address, "--json")
            driver = study.launch("--address", ray.address)
            code = driver.wait(400)
        yield study, examined, code, f"{url}/small"


def test_the_study_ran_on_code_that_was_shipped(finished):
    study, _, code, _ = finished
    assert code == 0, study.said
    assert [row["status"] for row in study.rows()] == ["completed", "completed"]
    assert {row["model"] for row in study.rows()} == {"my_model:tiny"}
    (line,) = [line for line in study.said.splitlines() if line.startswith("shipping ")]
    # the user's module is found without: Ray adds the driver's working folder, which these nodes see
    assert "trainables" in line
    assert "my_model" not in line


def test_checkpoints_are_whole_objects_in_the_bucket_and_nothing_else_is(finished):
    from pyarrow import fs

    study, _, _, url = finished
    for row in study.rows():
        assert row["checkpoint_path"] == f"{url}/{row['trial_id']}"
        assert files.exists(f"{row['checkpoint_path']}/best.pt")
        _, spec = read_weights(f"{row['checkpoint_path']}/last.pt")
        assert spec["method"] == "natural"
    system, path = fs.FileSystem.from_uri(url)
    found = system.get_file_info(fs.FileSelector(path, recursive=True))
    assert {one.base_name for one in found if one.type == fs.FileType.File} == {"last.pt", "best.pt"}
    assert not (study.dir / "checkpoints").exists()


def test_no_secret_is_in_any_file_of_the_study(finished):
    study, _, _, _ = finished
    for path in study.folder.rglob("*"):
        if path.is_file():
            assert b"a-test-secret" not in path.read_bytes(), path


def test_doctor_saw_that_code_would_be_shipped_and_that_every_node_reaches_the_bucket(finished):
    _, examined, _, url = finished
    found = json.loads(examined.stdout)
    checks = [one for one in found["checks"] if one["node"] != "here"]
    assert sum("another revision of trainables" in one["said"] for one in checks if one["check"] == "versions") == 3
    stores = [one for one in found["checks"] if one["check"] == "storage"]
    assert len(stores) == 4
    assert all(one["ok"] and url in one["said"] for one in stores)
