"""Rank correlations and slopes against independent implementations; their intervals against known truths."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row
from scipy import stats

from analysis.data.schema import ResultsError
from analysis.statistics.association import (
    LEAST,
    dropout_effects,
    lipschitz_associations,
    measure,
    random_share,
    slope,
    spearman,
)


def test_spearman_is_scipys_with_ties_and_gaps() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 60).astype(float), rng.integers(0, 6, 60).astype(float)
    x[3], y[7] = np.nan, np.nan
    known = ~np.isnan(x) & ~np.isnan(y)
    found = spearman(x, y)
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x[known], y[known]).statistic)
    assert found.n == 58
    assert found.low < found.value < found.high


def test_within_groups_a_correlation_that_lies_between_groups_vanishes() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(["a", "b", "c"], 100)
    level = np.repeat([0.0, 5.0, 10.0], 100)
    x, y = level + rng.normal(size=300), level + rng.normal(size=300)
    overall, within = spearman(x, y), spearman(x, y, groups=groups)
    assert overall is not None
    assert within is not None
    assert overall.low > 0.8
    assert within.low < 0 < within.high


def test_spearman_intervals_cover() -> None:
    """Normal pairs, whose rank correlation is known: 6 / pi asin(rho / 2)."""
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(800):
        pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=40)
        found = spearman(*pairs.T)
        assert found is not None
        covered.append(found.low <= 6 / np.pi * np.arcsin(0.3) <= found.high)
    print(f"rank correlation: 95 % intervals cover {np.mean(covered):.3f}")  # noqa: T201
    assert 0.93 <= np.mean(covered) <= 0.97


def test_within_groups_is_the_mean_of_their_own_correlations_weighed_by_size() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat([0, 1, 2], [7, 12, 20])
    x, y = rng.normal(size=39) * 10.0**groups, rng.normal(size=39) * 10.0**-groups
    own = [stats.spearmanr(x[groups == group], y[groups == group]).statistic for group in range(3)]
    found = spearman(x, y, groups=groups)
    assert found is not None
    assert found.value == pytest.approx(np.average(own, weights=[7, 12, 20]))


@pytest.mark.parametrize(
    ("sizes", "rho", "spread"), [((5, 6, 6, 3, 2), 0.0, 1.0), ((5, 6, 6, 3, 2), 0.0, 10.0), ((12, 15, 20), 0.6, 10.0)]
)
def test_spearman_intervals_cover_within_groups_however_one_of_them_spreads(sizes, rho, spread) -> None:
    """Groups lie apart and one spreads wider; within each normal pairs, whose rank correlation is known."""
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    scale = np.where(groups == 1, spread, 1.0)
    covered = []
    for _ in range(800):
        pairs = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=len(groups)).T
        found = spearman(scale * pairs[0] + groups, scale * pairs[1] - groups, groups=groups)
        assert found is not None
        covered.append(found.low <= 6 / np.pi * np.arcsin(rho / 2) <= found.high)
    print(f"within groups, rho {rho}, spread {spread}: 95 % intervals cover {np.mean(covered):.3f}")  # noqa: T201
    assert 0.93 <= np.mean(covered) <= 0.97


def test_studies_of_opposite_levels_make_no_association() -> None:
    """In either study neither dropout nor Lipschitzness matters; the second has more of both and is less robust."""
    rng = np.random.default_rng(7)
    rows = [
        result_row(
            number,
            study=("a", "b")[number % 2],
            proposal="random",
            val_lipschitz_mean=10 ** (number % 2 + 0.1 * rng.normal()),
            val_robust_accuracy=0.7 - 0.3 * (number % 2) + 0.02 * rng.normal(),
            **{"param.dropout": 0.4 * (number % 2) + 0.1 * rng.random()},
        )
        for number in range(80)
    ]
    table = as_table(rows)
    found = [*lipschitz_associations(table), *dropout_effects(table)]
    held = {(row.of, row.among): row.found for row in found if row.outcome == "robust accuracy"}
    for key in (("raw", "all methods"), ("raw", "within method"), ("raw", "natural"), ("0.1 dropout", "all methods")):
        association = held[key]
        assert association is not None, key
        assert association.low < 0 < association.high, key


def test_slope_is_least_squares_and_its_interval_covers_unequal_noise() -> None:
    rng = np.random.default_rng(3)
    covered = []
    for index in range(800):
        groups = rng.integers(0, 3, 60)
        x, z = rng.random(60), rng.random(60)
        y = 0.4 * x - z + groups + (0.1 + x) * rng.normal(size=60)
        found = slope(x, y, groups=groups, controls=[z])
        assert found is not None
        covered.append(found.low <= 0.4 <= found.high)
        if index == 0:
            design = np.column_stack([x, z, groups == 0, groups == 1, groups == 2])
            pseudo = np.linalg.pinv(design.astype(float))
            assert found.value == pytest.approx((pseudo @ y)[0])
            hat = design @ pseudo
            jackknifed = (y - hat @ y) / (1 - np.diag(hat))
            error = np.sqrt((pseudo[0] ** 2 * jackknifed**2).sum())
            assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 60 - 5) * error)
    print(f"slope: 95 % intervals cover {np.mean(covered):.3f}")  # noqa: T201
    assert 0.93 <= np.mean(covered) <= 0.975


def test_what_cannot_be_said_is_none() -> None:
    few, flat = np.arange(LEAST - 1.0), np.ones(20)
    assert spearman(few, few) is None
    assert spearman(flat, np.arange(20.0)) is None
    assert slope(flat, np.arange(20.0)) is None
    assert slope(few, few) is None
    assert spearman(np.arange(20.0), np.arange(20.0), groups=np.arange(20)) is None
    perfect = spearman(np.arange(20.0), np.arange(20.0))
    assert perfect is not None
    assert perfect.value == 1.0


def study_with_effects() -> list[dict[str, object]]:
    """Robust accuracy falls with Lipschitzness; 0.1 dropout costs 0.01 clean accuracy, whatever the Lipschitzness."""
    rng = np.random.default_rng(4)
    rows = []
    for number in range(120):
        dropout, lipschitz = 0.5 * rng.random(), 10 ** rng.uniform(0, 2)
        rows.append(
            result_row(
                number,
                proposal="random" if number % 2 else "sampler",
                method=("natural", "trades")[number % 3 == 0],
                val_lipschitz_scale_free_mean=lipschitz,
                val_lipschitz_mean=8 * lipschitz,
                val_robust_accuracy=0.7 - 0.2 * np.log10(lipschitz) + 0.02 * rng.normal(),
                val_clean_accuracy=0.95 - 0.1 * dropout + 0.01 * rng.normal(),
                clean_gap=0.02 + 0.01 * rng.random(),
                robust_gap=0.05 * rng.random(),
                **{"param.dropout": dropout},
            )
        )
    return rows


def test_effects_of_a_made_up_study_are_found_on_its_random_share() -> None:
    table = random_share(as_table([*study_with_effects(), result_row(500, proposal="random", flags=["noisy"])]))
    assert table.num_rows == 60
    rows = {(row.of, row.outcome, row.among): row.found for row in lipschitz_associations(table)}
    robust = rows["scale-free", "robust accuracy", "within method"]
    assert robust is not None
    assert robust.high < -0.9
    assert rows["raw", "robust accuracy", "trades"] is not None
    effects = {(row.outcome, row.among): row.found for row in dropout_effects(table)}
    clean = effects["clean accuracy", "all methods, at matched Lipschitzness"]
    assert clean is not None
    assert clean.low < -0.01 < clean.high < 0
    assert set(key[1] for key in effects) == {
        "all methods", "natural", "trades", "all methods, at matched Lipschitzness",
    }  # fmt: skip


def test_without_a_random_share_nothing_is_claimed() -> None:
    table = random_share(as_table([result_row(number) for number in range(30)]))
    assert table.num_rows == 0
    assert all(row.found is None for row in [*lipschitz_associations(table), *dropout_effects(table)])
    with pytest.raises(ResultsError, match="no column 'nope'"):
        measure(table, "nope")
    assert np.isnan(measure(as_table([result_row()]), "param.unheard_of")).all()
