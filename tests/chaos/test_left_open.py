"""A trial whose worker dies with its results is run again by the same driver."""

from __future__ import annotations

import pytest
from helpers.studies.in_process import robust_study
from helpers.studies.small_study import CONFIG, merged

from analysis.data.results import read_results
from study.config.loading import write_yaml
from study.driver.callbacks import TrialCallback
from study.driver.retries import MAX_FAILURES
from study.search.searcher import StillOpenError

pytestmark = pytest.mark.chaos

CHANGES = {
    "training": {"epochs": 1, "attack_steps": 1},
    "search": {"num_trials": 2, "methods": ["adversarial_training"]},
}


@pytest.fixture
def dies(monkeypatch):
    """Return a setter of how often the results of trial 00000 are lost with its worker."""
    before_tell, close, lost = TrialCallback.before_tell, TrialCallback._close, []

    def setter(times):
        def is_lost(trial):
            return trial.config["number"] == 0 and len(lost) < times

        def closing(self, trial, status, *, reason=None):
            if not is_lost(trial):
                close(self, trial, status, reason=reason)

        def telling(self, tune_id, *, error):
            if is_lost(self._open[tune_id]):
                lost.append(tune_id)
                raise StillOpenError
            return before_tell(self, tune_id, error=error)

        monkeypatch.setattr(TrialCallback, "_close", closing)
        monkeypatch.setattr(TrialCallback, "before_tell", telling)

    return setter


@pytest.mark.parametrize(("times", "code"), [(1, 0), (MAX_FAILURES, 1)])
def test_the_driver_runs_it_again_but_not_without_end(tmp_path, dies, times, code):
    dies(times)
    write_yaml(tmp_path / "study.yaml", merged(CONFIG, CHANGES))
    launched = robust_study(tmp_path, "launch", "study.yaml")
    assert launched.returncode == code, launched.stderr
    rows = read_results(tmp_path / "studies" / "small").to_pylist()
    assert [row["number"] for row in rows] == ([0, 1] if code == 0 else [1])
    if code:
        assert "1 of 2 trials are done; resume with:" in launched.stderr
