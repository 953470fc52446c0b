"""A trial's spec from its result row is the spec that it was proposed with."""

from __future__ import annotations

from itertools import islice

import pytest
from helpers.studies.searching import row_of, study_config

from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.errors import UsageError
from study.reproduce.grids import parts
from study.search.optuna_study import open_search
from study.search.trial_specs import params_of, spec_of
from trainables.methods import METHODS

EVERY_METHOD = {"methods": sorted(METHODS), "ranges": {}, "sampler": "random", "start_from": None, "num_trials": 30}
LISTED = {
    "batch_size": {"values": [32, 64]},
    "epochs": [3, 9],
    "ema": {"values": [None, 0.9]},
    "awp": {"values": [0, 0.005]},
    "lr": {"low": 0.01, "high": 0.1, "log": True, "points": 4},
    "locally_linear.variant": {"values": ["published", "as_run"]},
    "craft_mode": {"values": ["bn=train,dropout=eval", "bn=eval,dropout=train"]},
}


def proposed(config: StudyConfig, folder):
    """Yield the row, the spec and the parameters of trials that the config's search proposes."""
    search = open_search(config, folder)
    for number in range(min(12, config.num_trials)):
        trial = search.ask()
        spec = config.trial_spec(config.space().draw(trial), number=number)
        yield row_of(config, spec, number=number), spec, trial.params


def configs():
    yield "every method", study_config(**EVERY_METHOD)
    listed = {key: value for key, value in LISTED.items() if key != "craft_mode"}
    yield "listed values", study_config(**{**EVERY_METHOD, "ranges": listed})
    attacking = [name for name in METHODS if METHODS.load(name).attacks]
    yield "craft modes", study_config(**{**EVERY_METHOD, "methods": attacking, "ranges": LISTED})
    yield "the preset paper", load_config("paper")
    for table in ("table2", "table3", "table4"):
        for tree in parts(table, "smoke"):
            yield str(tree["name"]), load_config(tree)


@pytest.mark.long
@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in configs()])
def test_the_row_alone_gives_the_spec_and_the_parameters(config, tmp_path, monkeypatch):
    trials = list(proposed(config, tmp_path))
    monkeypatch.delattr("study.search.trial_specs.open_search")
    for row, spec, params in trials:
        assert spec_of(config, tmp_path, row) == spec
        assert params_of(config.space(), row) == params


def test_what_has_no_column_is_looked_up_in_the_storage(tmp_path):
    ranges = {"schedule": {"values": ["cosine", "constant"]}, "clip_norm": {"values": [None, 3.0]}}
    config = study_config(**{**EVERY_METHOD, "ranges": ranges})
    rows, clipped = [], set()
    for row, spec, params in islice(proposed(config, tmp_path), 6):
        assert spec_of(config, tmp_path, row) == spec
        assert params_of(config.space(), row).items() < params.items()
        rows.append(row)
        clipped.add(spec.training.clip_norm)
    assert clipped == {None, 3.0}
    (tmp_path / "optuna.db").unlink()
    with pytest.raises(UsageError, match="schedule"):
        spec_of(config, tmp_path, rows[0])
