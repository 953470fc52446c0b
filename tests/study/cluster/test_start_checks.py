"""What `launch` reads and calls before it starts: data sets' own checks, pools, attacks that suit, empty spaces."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.networks.image_files import cyclic_labels, encode, parquet_table, random_images
from helpers.studies.in_process import robust_study

from study.cluster.preflight import check_config
from study.cluster.start import new_start
from study.config.loading import load_config, write_yaml
from study.config.paths import pools

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "extending"
CODE = """
from dataclasses import dataclass
from pathlib import Path

from own_data import halves as read
from trainables.settings import setting


def halves(root):
    Path("read").touch()
    return read(root)


def missing(root):
    raise FileNotFoundError(f"{root} has no halves.npz: run make_halves.py")


halves.check = missing


@dataclass(frozen=True)
class Pooled:
    attacks = False
    pool: str = setting("pool.parquet", doc="unlabelled images")

    def __call__(self, step):
        raise AssertionError


def nothing(*, methods, evaluation):
    return []
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the examples and some more code."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "own_more.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for path in tmp_path.glob("own_*.py"):
        sys.modules.pop(path.stem, None)
    return tmp_path


def tree(**changes: object) -> dict:
    plain = {
        "name": "own",
        "dataset": {"name": "own_data:halves"},
        "model": {"name": "mlp"},
        "training": {"epochs": 1},
        "search": {"space": "core", "methods": ["natural"], "num_trials": 3},
    }
    return {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value
            for key, value in (plain | {key: {} for key in changes if key not in plain}).items()}  # fmt: skip


def refusal(folder: Path, **changes: object) -> str:
    """Launch a study, which must be refused before anything starts; return the last line printed."""
    write_yaml(folder / "study.yaml", tree(**changes))
    before = {*folder.iterdir()}
    result = robust_study(folder, "launch", "study.yaml")
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert {path for path in {*folder.iterdir()} - before if path.name != "__pycache__"} == set()
    return result.stderr.splitlines()[-1]


def test_the_check_of_a_data_set_is_called_before_its_images_are_read(folder):
    line = refusal(folder, dataset={"name": "own_more:halves"})
    assert line.startswith("robust-study: data set 'own_more:halves', called with the data root ")
    assert ", by its `check`, raised FileNotFoundError: " in line
    assert line.endswith("has no halves.npz: run make_halves.py (own_more.py:15)")
    assert not (folder / "read").exists()


POOLS = {
    "shape": (random_images(4, (1, 4, 4)), "`pool` must hold images of shape (1, 8, 8), {} has (1, 4, 4)"),
    "content": ([b"no image"], "`pool`: {}, image 0 of the split cannot be decoded: it is none of PNG, JPEG,"),
}


@pytest.mark.parametrize("fault", POOLS)
@pytest.mark.parametrize("method", ["robust_self_training", "own_more:Pooled"])
def test_a_pool_is_read_before_the_start(folder, method, fault):
    contents, problem = POOLS[fault]
    encoded = [one if isinstance(one, bytes) else encode(one) for one in contents]
    pq.write_table(parquet_table(encoded, cyclic_labels(len(encoded))), folder / "pool.parquet")
    search = {"methods": [method], "fixed": {"pool": "pool.parquet"} if method == "robust_self_training" else {}}
    place = folder / "pool.parquet" if search["fixed"] else "pool.parquet"
    assert refusal(folder, search=search).startswith(f"robust-study: {problem.format(place)}")


@pytest.mark.parametrize(
    ("contents", "labels", "problem"),
    [
        (random_images(4, (1, 4, 4)), 2, "`extra` must hold images of shape (1, 8, 8), {} has (1, 4, 4)"),
        (random_images(4, (1, 8, 8)), 3, "`extra` must have labels in 0..1, {} has others and no class names"),
    ],
)
def test_extra_images_that_no_trial_could_use_are_refused(folder, contents, labels, problem):
    path = folder / "more.parquet"
    pq.write_table(parquet_table([encode(one) for one in contents], cyclic_labels(4, labels)), path)
    training = {"epochs": 1, "extra": "more.parquet"}
    assert refusal(folder, training=training) == f"robust-study: {problem.format(path)}"


def test_the_default_pool_of_a_method_counts_unless_another_is_given(folder):
    def found(**search: object) -> list[str]:
        return pools(load_config(tree(search={"methods": ["own_more:Pooled"], **search})))

    assert found() == ["pool.parquet"]
    assert found(fixed={"pool": "other.parquet"}) == ["other.parquet"]
    assert found(ranges={"own_more:Pooled.pool": {"values": ["a", "b"]}}) == ["a", "b"]


def test_an_attack_that_does_not_suit_the_images_is_refused(folder):
    pytest.importorskip("pyautoattack")
    line = refusal(folder, evaluation={"attack": "apgd_t"})
    assert line == (
        "robust-study: `evaluation.attack`: attack apgd_t needs at least 4 classes, got 2: use multi_targeted"
    )
    for split, count in (("train", 20), ("test", 8)):
        images = np.tile(random_images(count, (1, 4, 4), seed=count), (1, 1, 1, 1))
        table = parquet_table([encode(image) for image in images], cyclic_labels(count, 4))
        pq.write_table(table, folder / f"{split}.parquet")
    line = refusal(folder, dataset={"name": str(folder)}, evaluation={"attack": "autoattack"})
    assert line == (
        "robust-study: `evaluation.attack`: attack autoattack takes images (n, c, h, w) of 5x5 and up, got (1, 4, 4)"
    )


EQUAL = "no setting is searched: the 3 trials differ by their seeds alone"


@pytest.mark.parametrize(
    ("search", "warned"),
    [
        ({"space": "own_more:nothing"}, True),
        ({"fixed": {"dropout": 0.1}}, True),
        ({"fixed": {"dropout": 0.1}, "num_trials": 1}, False),
        ({"space": "own_more:nothing", "ranges": {"lr": [0.01, 0.1]}}, False),
        ({"space": "own_more:nothing", "methods": ["natural", "own_more:Pooled"]}, False),
        ({}, False),
    ],
)
def test_trials_that_differ_by_their_seeds_alone_are_said(folder, search, warned):
    start = new_start(tree(search=search), assignments=(), out=folder / "studies", data_root=None, address=None)
    assert [finding.text for finding in check_config(start) if finding.is_warning] == [EQUAL] * warned
