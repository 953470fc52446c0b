"""Effects of a dose, mediation and gaps by dropout against closed forms and studies whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.studies.dosed import DIRECT, DOSES, DROPOUT, HALVING, SLOPE, dosed_rows
from helpers.studies.synthetic_results import as_table
from scipy import stats

from analysis.statistics.intervals import Estimate
from analysis.statistics.intervention import (
    RESPONSES,
    Experiment,
    contrast,
    dose_effects,
    dropout_gaps,
    experiment_of,
    points,
)
from analysis.statistics.mediation import mediation


def experiment(rows: list[dict[str, Any]]) -> Experiment:
    found = experiment_of(as_table(rows))
    assert found is not None
    return found


def test_a_contrast_of_one_cell_and_of_two_is_the_t_interval() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=4), rng.normal(1, 2, size=6)
    cells = np.repeat([7, 9], [4, 6])
    one = contrast(np.concatenate([first, second]), cells, {7: 1.0})
    assert one is not None
    assert (one.low, one.high) == pytest.approx(stats.t.interval(0.95, 3, loc=first.mean(), scale=stats.sem(first)))
    both = contrast([*first, np.nan, *second], [*cells[:4], 7, *cells[4:]], {7: -1.0, 9: 1.0})
    assert both is not None
    expected = stats.ttest_ind(second, first).confidence_interval(0.95)
    assert (both.value, both.low, both.high) == pytest.approx((second.mean() - first.mean(), *expected))


def test_a_contrast_without_repetition_has_no_interval_and_without_a_value_is_not_there() -> None:
    alone = contrast([1.0, 2.0], [0, 1], {0: -1.0, 1: 1.0})
    assert alone is not None
    assert alone.value == 1.0
    assert np.isnan([alone.low, alone.high]).all()
    assert contrast([1.0, np.nan], [0, 1], {0: 1.0, 1: 1.0}) is None


def test_one_doubling_of_the_dose_does_what_it_does_in_the_data() -> None:
    found = dose_effects(experiment(dosed_rows(np.random.default_rng(1), noise=0)))
    assert {one.method: one.dose for one in found} == {
        "trades": "beta", "lipschitz_penalty": "lambda", "adversarial_training": "train_epsilon",
    }  # fmt: skip
    for one in found:
        effects = {name: effect.value for name, effect in one.effects.items() if effect is not None}
        assert effects == pytest.approx(
            {
                "val_lipschitz_scale_free_mean": HALVING, "val_lipschitz_mean": HALVING,
                "val_robust_accuracy": SLOPE * HALVING, "val_clean_accuracy": 0.0,
            },
            abs=1e-12,
        )  # fmt: skip


def test_points_are_means_with_t_intervals_geometric_ones_of_lipschitzness() -> None:
    rows = dosed_rows(np.random.default_rng(2))
    found = points(experiment(rows))
    levels = 2 * (1 + sum(len(levels) for _, levels in DOSES.values()))
    assert len(found) == levels * len(RESPONSES)
    assert {point.n for point in found} == {3}
    chosen = {"method": "trades", "param.dropout": 0.5, "param.beta": 2.0}
    smooth = np.log([row["val_lipschitz_mean"] for row in rows if chosen.items() <= row.items()])
    (point,) = [
        each
        for each in found
        if (each.method, each.dropout, each.dose, each.response) == ("trades", 0.5, 2.0, "val_lipschitz_mean")
    ]
    low, high = stats.t.interval(0.95, 2, loc=smooth.mean(), scale=stats.sem(smooth))
    assert (point.mean.value, point.mean.low, point.mean.high) == pytest.approx(np.exp([smooth.mean(), low, high]))


def test_mediation_divides_a_gain_as_it_was_made() -> None:
    found = mediation(
        experiment(dosed_rows(np.random.default_rng(3), noise=0)), generator=np.random.default_rng(0), draws=20
    )
    assert found is not None
    assert found.slope.value == pytest.approx(SLOPE)
    assert len(found.parts) == sum(len(levels) for _, levels in DOSES.values())
    for part in found.parts:
        doublings = HALVING * (list(DOSES[part.method][1]).index(part.dose) + 1)
        assert part.doublings.value == pytest.approx(doublings)
        assert part.part.value == pytest.approx(SLOPE * doublings)
        assert part.rest.value == pytest.approx(DIRECT[part.method])
        assert part.total.value == pytest.approx(part.part.value + part.rest.value)
        assert part.n == 6


def test_the_drawn_seeds_spread_as_the_means_do() -> None:
    """With robust accuracy on a line in Lipschitzness only the part's difference in Lipschitzness is uncertain."""
    rows = dosed_rows(np.random.default_rng(10))
    for row in rows:
        above = np.log2(row["val_lipschitz_scale_free_mean"]) - 6
        row["val_robust_accuracy"] = 0.4 + SLOPE * above + DIRECT.get(row["method"], 0.0)
    found = mediation(experiment(rows), generator=np.random.default_rng(0), draws=4000)
    assert found is not None
    (part,) = [one for one in found.parts if (one.method, one.dose) == ("trades", 2.0)]
    cells: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        if row["method"] == "natural" or row["param.beta"] == 2.0:
            of_cell = cells.setdefault((row["method"], row["param.dropout"]), [])
            of_cell.append(np.log2(row["val_lipschitz_scale_free_mean"]))
    error = -SLOPE / 2 * np.sqrt(sum(stats.sem(of_cell) ** 2 for of_cell in cells.values()))
    assert part.part.high - part.part.low == pytest.approx(2 * 1.96 * error, rel=0.08)


@pytest.mark.long
def test_intervals_cover_the_truth_of_simulated_studies() -> None:
    def covers(found: Estimate | None, truth: float) -> bool:
        assert found is not None
        return found.low <= truth <= found.high

    rng, covered = np.random.default_rng(4), {"dose": [], "slope": [], "total": [], "part": [], "rest": [], "gap": []}
    doublings = 3 * HALVING
    for _ in range(120):
        drawn = experiment(dosed_rows(rng))
        effect = dose_effects(drawn)[0].effects["val_lipschitz_mean"]
        covered["dose"].append(covers(effect, HALVING))
        found = mediation(drawn, generator=rng, draws=300)
        assert found is not None
        (part,) = [one for one in found.parts if (one.method, one.dose) == ("trades", 2.0)]
        covered["slope"].append(covers(found.slope, SLOPE))
        covered["total"].append(covers(part.total, SLOPE * doublings + DIRECT["trades"]))
        covered["part"].append(covers(part.part, SLOPE * doublings))
        covered["rest"].append(covers(part.rest, DIRECT["trades"]))
        covered["gap"].append(covers(dropout_gaps(drawn, "clean_gap")[0.5][1], DROPOUT))
    shares = {name: float(np.mean(each)) for name, each in covered.items()}
    print(f"95 % intervals cover {shares}")  # noqa: T201
    assert min(shares.values()) >= 0.9


def test_gaps_compare_rates_at_equal_doses_only() -> None:
    rows = [
        row | {"clean_gap": row["clean_gap"] + 0.3 * (row["method"] == "trades")}
        for row in dosed_rows(np.random.default_rng(5), noise=0)
        if row["method"] != "trades" or row["param.dropout"] == 0
    ]
    found = dropout_gaps(experiment(rows), "clean_gap")
    assert found[0.0][0].value == pytest.approx(0.1)  # type: ignore[union-attr]
    assert found[0.5][1].value == pytest.approx(DROPOUT)  # type: ignore[union-attr]


def test_without_intervention_a_correlation_that_the_dose_makes_is_gone() -> None:
    rows = dosed_rows(np.random.default_rng(6), seeds=8)
    rng = np.random.default_rng(7)
    for row in rows:  # robust accuracy follows the dose, not the seed's own Lipschitzness
        row["val_robust_accuracy"] = 0.4 + 0.1 * np.log2((row["param.beta"] or 0.0) + 1) + 0.02 * rng.normal()
    (trades,) = [one for one in dose_effects(experiment(rows)) if one.method == "trades"]
    over, same = trades.correlation["val_lipschitz_mean"], trades.between_seeds["val_lipschitz_mean"]
    assert over is not None
    assert same is not None
    assert over.high < -0.7
    assert same.low < 0 < same.high


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row | {"proposal": "sampler"},
        lambda row: row | {"flags": ["zero_gradients"]},
        lambda row: row | {"status": "failed"},
    ],
)
def test_only_sound_independent_trials_count(spoil: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    rows = dosed_rows(np.random.default_rng(8))
    spoiled = {(row["method"], row["number"]): spoil(row) for row in rows if row["number"] >= 2 * len(rows) // 3}
    found = experiment([spoiled.get((row["method"], row["number"]), row) for row in rows])
    assert len(found.methods) == len(rows) * 2 // 3
    assert experiment_of(as_table([spoil(row) for row in rows])) is None


def test_catastrophic_overfitting_is_no_doubt_about_the_measurement() -> None:
    rows = [row | {"flags": ["catastrophic_overfitting"]} for row in dosed_rows(np.random.default_rng(8))]
    assert len(experiment(rows).methods) == len(rows)
    assert experiment_of(as_table([row | {"flags": [*row["flags"], "zero_gradients"]} for row in rows])) is None


def test_one_seed_or_two_doses_are_no_experiment() -> None:
    assert experiment_of(as_table(dosed_rows(np.random.default_rng(9), seeds=1))) is None
    few = [
        row
        for row in dosed_rows(np.random.default_rng(9))
        if row["method"] == "natural" or row["param.beta"] in (0.5, 4.0)
    ]
    assert experiment_of(as_table(few)) is None
