"""The growth of a hypervolume against computing it from scratch after each trial."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows

from analysis.fronts.front import MixedStudiesError, front_hypervolume
from analysis.fronts.growth import hypervolume_growth
from analysis.fronts.objectives import FRONT

THREE = (*FRONT, "val_lipschitz_scale_free_log10")


@pytest.mark.parametrize("objectives", [FRONT, THREE, FRONT[:1]])
def test_growth_is_the_hypervolume_of_the_first_trials(objectives: tuple[str, ...]) -> None:
    table = as_table(study_rows(60, seed=2))
    found = hypervolume_growth(table, objectives=objectives)
    expected = [front_hypervolume(table.slice(0, n), objectives=objectives).value for n in range(1, 61)]
    assert found.volume == pytest.approx(expected)
    assert (np.diff(found.volume) >= 0).all()
    assert found.trials.tolist() == list(range(1, 61))


def test_trials_count_when_they_end_and_failed_ones_cost_hours() -> None:
    late, early = "2026-01-01T10:00:00+00:00", "2026-01-01T09:00:00+00:00"
    table = as_table(
        [
            result_row(0, started_at=early, seconds=7200.0, val_clean_accuracy=0.9, val_robust_accuracy=0.1),
            result_row(1, started_at=early, seconds=1800.0, status="failed"),
            result_row(2, started_at=late, seconds=1800.0, val_clean_accuracy=0.5, val_robust_accuracy=0.5),
        ]
    )
    found = hypervolume_growth(table, devices=0.5)
    assert found.hours == pytest.approx([0.25, 0.5, 1.5])
    assert found.volume == pytest.approx([0.0, 0.25, 0.25 + 0.4 * 0.1])


def test_the_reference_of_the_config_moves_the_volume() -> None:
    table = as_table([result_row(0, val_clean_accuracy=0.9, val_robust_accuracy=0.5)])
    found = hypervolume_growth(table, reference={"val_clean_accuracy": 0.4, "val_robust_accuracy": 0.6})
    assert (found.volume.tolist(), found.reference) == ([0.0], (0.4, 0.6))
    volume = front_hypervolume(table, reference={"val_clean_accuracy": 0.4})
    assert (volume.value, volume.reference) == (pytest.approx(0.25), (0.4, 0.0))
    assert front_hypervolume(table, reference={"val_robust_accuracy": 0.6}).beyond == 1


def test_unknown_times_and_empty_tables() -> None:
    table = as_table([result_row(1), result_row(0, seconds=None)])
    found = hypervolume_growth(table)
    assert np.isnan(found.hours).any()
    assert found.volume[-1] == pytest.approx(0.45)
    assert hypervolume_growth(as_table([])).volume.shape == (0,)
    with pytest.raises(MixedStudiesError):
        hypervolume_growth(as_table([result_row(0), result_row(1, eval_epsilon=0.2)]))
