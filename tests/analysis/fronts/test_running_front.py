"""A front that is kept up to date row by row is the front of all rows so far."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fronts import running_front
from analysis.fronts.front import front_hypervolume, front_of, hypervolume
from analysis.fronts.member_choice import best_at_floor
from analysis.fronts.objectives import FRONT, constraints_text, values
from analysis.fronts.running_front import RunningFront

ACCURACY = st.one_of(st.none(), st.integers(0, 8).map(lambda value: value / 8))
KIND = st.sampled_from([{}, {}, {"flags": ["zero_gradients"]}, {"status": "failed"}, {"status": "stopped_early"}])


def agree(running: RunningFront, rows: list[dict[str, object]], **options: object) -> None:
    """Compare a running front with the front of the whole table."""
    table = as_table(rows)
    front = front_of(table)
    assert sorted(running.trial_ids) == sorted(front["trial_id"].to_pylist())
    assert len(running) == front.num_rows
    assert running.hypervolume == pytest.approx(front_hypervolume(table, **options).value)
    if front.num_rows:
        best = best_at_floor(values(front, FRONT))
        assert (running.best.robust, running.best.floor) == (best.robust, best.floor)
        assert running.points[running.best.index].tolist() == [best.clean, best.robust]
    else:
        assert running.best is None


@settings(max_examples=30)
@given(st.lists(st.tuples(ACCURACY, ACCURACY, KIND), max_size=20))
def test_it_is_the_front_of_all_rows(trials: list[tuple[float | None, float | None, dict]]) -> None:
    running = RunningFront()
    rows: list[dict[str, object]] = []
    for number, (clean, robust, kind) in enumerate(trials):
        rows.append(result_row(number, val_clean_accuracy=clean, val_robust_accuracy=robust, **kind))
        before = running.trial_ids
        assert running.add(rows[-1]) == (running.trial_ids != before)
    agree(running, rows)


def test_constraints_and_the_reference_of_the_config_hold() -> None:
    reference = {"val_clean_accuracy": 0.5}
    running = RunningFront(reference=reference)
    rows = [row | {"constraints": constraints_text(["val_clean_accuracy >= 0.93"])} for row in study_rows(60, seed=4)]
    for row in rows:
        running.add(row)
    agree(running, rows, reference=reference)
    assert (running.points[:, 0] >= 0.93).all()
    assert running.hypervolume < front_hypervolume(as_table(rows)).value


def test_the_hypervolume_is_computed_only_where_the_front_changes_and_of_its_members_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    def counted(points: np.ndarray, **options: object) -> object:
        sizes.append(len(points))
        return hypervolume(points, **options)

    monkeypatch.setattr(running_front, "hypervolume", counted)
    draw, running, members = np.random.default_rng(0), RunningFront(), []
    for number in range(2000):
        clean = draw.random()
        row = result_row(number, val_clean_accuracy=clean, val_robust_accuracy=(1 - clean) * draw.random())
        members += [len(running)] if running.add(row) else []
    assert sizes == members
    assert len(sizes) < 300
