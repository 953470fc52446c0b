"""Multi-objective early stopping on recorded curves of real trials reaches the same front with half the epochs."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks import early_stopping as replayed
from study.config.schema import parse_config

ORDERS = 5
# of the hypervolume without stopping, in every single order of arrival
SAME = 0.99


@pytest.fixture(scope="module")
def curves():
    return replayed.read_curves()


@pytest.fixture(scope="module")
def scores(curves):
    makers = replayed.contenders()
    return {name: replayed.score(curves, makers[name], orders=ORDERS) for name in ("moasha", "random stopping")}


def test_the_curves_are_of_enough_real_trials_and_record_their_command(curves):
    assert len(curves.rows) >= 60
    assert len(curves.eligible) >= 60
    assert replayed.CURVES.stat().st_size < 300_000
    about = {key.decode(): value.decode() for key, value in pq.read_schema(replayed.CURVES).metadata.items()}
    assert about["command"].startswith("robust-study launch benchmarks/")
    assert about["config"] == replayed.CONFIG.read_text()
    config = parse_config(yaml.safe_load(about["config"]))
    assert config.search.num_trials == len(curves.rows)
    assert config.scheduler.name == "none"
    assert {len(curves.rows[trial]) for trial in curves.eligible} == {config.training.epochs}
    assert len(about["code_revision"]) >= 7


def test_the_default_scheduler_keeps_the_hypervolume_for_half_the_epochs(scores):
    score = scores["moasha"]
    assert score.epochs.max() <= 0.5
    assert score.front.min() >= SAME
    assert score.axes.min() >= SAME


def test_stopping_at_random_at_the_same_rungs_does_not(scores):
    random, moasha = scores["random stopping"], scores["moasha"]
    assert random.epochs.mean() == pytest.approx(moasha.epochs.mean(), abs=0.05)
    assert random.axes.mean() < SAME
    assert random.front.mean() < moasha.front.mean()


def test_a_replay_without_stopping_runs_every_epoch_and_finds_every_member(curves):
    score = replayed.score(curves, replayed.contenders()["none"], orders=1)
    assert (score.epochs[0], score.front[0], score.axes[0]) == (1, 1, 1)
    assert score.finished[0] == len(curves.eligible)


def test_a_replay_stops_exactly_the_trials_that_do_not_run_to_their_end(curves):
    run = replayed.replay(curves, replayed.contenders()["moasha"](0), seed=0)
    assert run.stopped
    assert set(run.last) == set(curves.rows)
    ended = {trial for trial, epoch in run.last.items() if epoch == len(curves.rows[trial])}
    assert run.stopped == set(curves.rows) - ended
