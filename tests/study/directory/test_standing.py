"""What a study's rows show so far, as text and as the metrics of its run."""

from __future__ import annotations

from helpers.studies.synthetic_results import result_row

from study.directory.standing import Standing

LOST = {"status": "failed", "val_clean_accuracy": None, "val_robust_accuracy": None}


def test_an_empty_study_has_no_front_and_no_failures() -> None:
    assert str(Standing()) == "no front yet · 0 failed"
    assert Standing().metrics().keys().isdisjoint({"best_robust_accuracy", "clean_floor"})


def test_the_text_has_the_best_at_the_floor_the_hypervolume_and_the_first_failures_reason() -> None:
    standing = Standing()
    for row in (
        result_row(0, val_clean_accuracy=0.98, val_robust_accuracy=0.1),
        result_row(1, reason="diverged", **LOST),
        result_row(2, val_clean_accuracy=0.94, val_robust_accuracy=0.5),
        result_row(3, val_clean_accuracy=0.6, val_robust_accuracy=0.55),
        result_row(4, reason="worker process died", **LOST),
    ):
        standing.add(row)
    volume = 0.98 * 0.1 + 0.94 * 0.4 + 0.6 * 0.05
    assert str(standing) == (
        f"robust 0.500 at clean ≥ 0.93 · hypervolume {volume:.3f} · front 3 · 2 failed, first: diverged"
    )
    metrics = standing.metrics()
    assert (metrics["trials_completed"], metrics["trials_failed"], metrics["front_size"]) == (3, 2, 3)
    assert (metrics["best_robust_accuracy"], metrics["clean_floor"]) == (0.5, 0.93)
    assert standing.done == 5


def test_a_long_reason_is_cut_and_a_missing_one_is_told() -> None:
    standing = Standing()
    standing.add(result_row(0, reason=f"RuntimeError: {'x' * 200}", **LOST))
    assert str(standing).endswith("x…")
    assert len(str(standing)) < 110
    unknown = Standing()
    unknown.add(result_row(0, reason=None, **LOST))
    assert str(unknown).endswith("1 failed, first: unknown")
