"""URLs of files: every name of a folder survives them, in the working folder, --out, --data-root and tracking.uri."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.structure.architecture import ROOT
from PIL import Image

from study.cluster.preflight import findings_of
from study.cluster.start import new_start
from study.config.file_urls import absolute, default_uri, missing_file, sqlite_path, sqlite_url
from study.config.loading import load_config
from study.config.paths import resolved
from study.config.values import unreadable, uri_problem
from study.errors import UsageError
from study.search.storage import open_storage
from study.tracking.availability import access_problem, durability_problem
from trainables.data import load_dataset

NAMES = ["%", "a%20b", "lr%3D0.1", "runs?v2", "#", "x #y", "&", "+", "'", '"', "@", "é", "漢", "a b", ";", "{}", "a:b"]
SMALL = {"name": "s", "dataset": {"name": "digits"}, "model": {"name": "cnn_small"}, "search": {"space": "core"}}


@pytest.fixture(params=NAMES)
def odd(request, tmp_path, monkeypatch):
    """A working folder of an odd name, with a folder of that name in it."""
    folder = tmp_path / request.param
    (folder / request.param).mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_a_url_names_the_file_it_was_built_from(odd):
    file = odd / "mlflow.db"
    assert sqlite_path(sqlite_url(file)) == file
    assert default_uri() == sqlite_url(file) == absolute(default_uri())
    assert uri_problem(default_uri()) is None


def test_optuna_opens_the_file_in_the_study_folder(odd):
    config = load_config(SMALL)
    open_storage(config, odd)
    assert sorted(path.name for path in odd.iterdir()) == sorted([odd.name, "optuna.db"])
    assert sorted(path.name for path in odd.parent.iterdir()) == [odd.name]


def test_the_checks_of_a_store_look_at_its_own_file(odd):
    uri = sqlite_url(odd / odd.name / "mlflow.db")
    assert missing_file(uri) == odd / odd.name / "mlflow.db"
    assert "does not exist" in unreadable(uri)
    assert access_problem(uri) is durability_problem(uri) is None
    (odd / odd.name / "mlflow.db").write_text("no store")
    assert "cannot be read" in unreadable(uri)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with a tiny image set: 40 images of two classes in Parquet."""
    folder = tmp_path_factory.mktemp("images")
    for split, count in (("train", 40), ("test", 8)):
        pictures = []
        for index in range(count):
            Image.fromarray(np.full((8, 8), 6 * index, dtype=np.uint8)).save(file := io.BytesIO(), "PNG")
            pictures.append({"bytes": file.getvalue(), "path": None})
        labels = [index % 2 for index in range(count)]
        pq.write_table(pa.table({"image": pictures, "label": labels}), folder / f"{split}.parquet")
    return folder


def test_a_start_in_odd_folders_passes_its_checks(odd, images):
    inner = odd / odd.name
    shutil.copytree(images, inner, dirs_exist_ok=True)
    config = {**SMALL, "dataset": {"name": str(inner)}}
    uri = f"tracking.uri={sqlite_url(inner / 'mlflow.db')}"
    start = new_start(config, assignments=[uri], out=Path(odd.name), data_root=Path(odd.name), address=None)
    assert [finding for finding in findings_of(start) if not finding.ok] == []
    assert start.config.dataset.root == start.config.dataset.name == str(inner)
    assert sorted(path.name for path in odd.parent.iterdir()) == [odd.name]


@pytest.mark.long
def test_a_set_of_torchvision_is_found_in_an_odd_folder(odd, data_root):
    (odd / odd.name / "MNIST").symlink_to(data_root / "MNIST")
    config = resolved(load_config({**SMALL, "dataset": {"name": "mnist"}}, data_root=odd.name))
    assert load_dataset(config.dataset).image_shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///runs?v2/mlflow.db", "must have no options, which begin with ?; a ? in a path is written %3F"),
        ("sqlite:////data/100%de/mlflow.db", "has a % that encodes no character"),
        ("sqlite:////data/a%00b.db", "has a % that encodes no character"),
        ("sqlite:///a\0b.db", "must not hold a NUL character, got 'sqlite:///a\\x00b.db'"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:////data/", "must name a file"),
    ],
)
def test_a_tracking_uri_that_names_no_file_is_refused(uri, message):
    with pytest.raises(UsageError, match=rf"^`tracking.uri` {re.escape(message)}"):
        load_config({**SMALL, "tracking": {"uri": uri}})


def test_an_options_value_is_not_repeated():
    assert "SECRET" not in uri_problem("sqlite:///x.db?key=SECRET")


def test_a_path_typed_for_a_uri_is_refused_with_the_uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a%20b").mkdir()
    with pytest.raises(UsageError, match=r"names a b/mlflow.db, whose folder does not exist.*a%2520b/mlflow.db$"):
        absolute("sqlite:///a%20b/mlflow.db")
    (tmp_path / "a b").mkdir()
    assert sqlite_path(absolute("sqlite:///a%20b/mlflow.db")) == tmp_path / "a b/mlflow.db"


def test_an_unknown_home_is_part_of_a_name():
    assert str(sqlite_path("sqlite:///~no-user-of-this-name/x.db")) == "~no-user-of-this-name/x.db"


@pytest.mark.parametrize("text", ["x #y", "#x", "&x", "@x", "*x", "%x", "`x", "a b", "'"])
def test_a_set_takes_a_name_as_it_is(text):
    given = f"/data/{text}" if text == "'" else text
    assert load_config(SMALL, assignments=[f"dataset.root={given}"]).dataset.root == given


def test_no_other_module_builds_or_cuts_the_url_of_a_file():
    builds = re.compile(r'sqlite:///\{|removeprefix\("sqlite|"file://')
    sources = [path for path in (ROOT / "study").rglob("*.py") if path.name != "file_urls.py"]
    assert len(sources) > 100
    assert [path.name for path in sources if builds.search(path.read_text(encoding="utf-8"))] == []
