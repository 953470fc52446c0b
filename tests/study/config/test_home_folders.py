"""A path that begins with ~: the home folder, or, for a user that does not exist, the folder of that very name."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.config.loading import load_config
from study.config.paths import resolved
from study.errors import UsageError
from study.search.storage import _journal
from trainables.data import DataError, check_available
from trainables.data.unlabelled import check_images

SMALL = {"name": "t", "dataset": {"name": "digits"}, "search": {"space": "core", "num_trials": 2}}
NOBODY = "~no-such-user/data"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def test_the_home_folder_is_found(tmp_path):
    changes = ["dataset.root=~/data", "storage.checkpoints=~/data/checkpoints"]
    config = resolved(load_config(SMALL, assignments=changes))
    assert config.dataset.root == str(tmp_path / "home/data")
    assert config.storage.checkpoints == str(tmp_path / "home/data/checkpoints")
    assert _journal("journal:~/trials.log", Path("study")) == tmp_path / "home/trials.log"


def test_the_home_of_a_user_that_does_not_exist_is_one_line(tmp_path):
    config = resolved(load_config(SMALL, assignments=[f"dataset.root={NOBODY}"]))
    with pytest.raises(DataError, match=r"`dataset.root` must be an existing folder, got .*/~no-such-user/data"):
        check_available(config.dataset)
    with pytest.raises(UsageError, match=r"`dataset.name`: folder ~no-such-user/data of Parquet files does not exist"):
        load_config(SMALL, assignments=[f"dataset.name={NOBODY}"])
    with pytest.raises(DataError, match=r"`pool` must be a data set, a Parquet file or a folder of them, got ~no-such"):
        check_images(NOBODY, root=None)
    config = resolved(load_config(SMALL, assignments=[f"storage.checkpoints={NOBODY}"]))
    assert config.storage.checkpoints == str(tmp_path / NOBODY)
