"""Failed trials grouped by cause."""

from __future__ import annotations

from study.reports.failures import causes, failure_table


def row(trial, reason, status="failed"):
    return {"trial_id": trial, "status": status, "reason": reason}


def test_reasons_that_differ_in_numbers_are_one_cause(tmp_path):
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "00004.txt").write_text("trace")
    rows = [
        row("00007", "diverged"),
        row("00009", "CUDA out of memory: tried 20.5 MiB at 0x7ffe12"),
        row("00004", "CUDA out of memory: tried 7 MiB at 0xdeadbeef"),
        row("00001", None, status="completed"),
        row("00002", None, status="stopped_early"),
        row("00010", None),
    ]
    failures = causes(rows, tmp_path)
    assert [(cause.count, cause.first) for cause in failures] == [(2, "00004"), (1, "00007"), (1, "00010")]
    assert failures[0].traceback == tmp_path / "errors" / "00004.txt"
    assert failures[1].traceback is None
    assert failures[2].reason == "unknown"
    assert failure_table(failures).row_count == 3


def test_reasons_that_earlier_versions_stored_are_grouped_with_todays(tmp_path):
    rows = [row("00001", "the worker died without a word"), row("00002", "worker process died")]
    rows += [row("00003", "stopped before anything was measured"), row("00004", "stopped before the first measurement")]
    failures = causes(rows, tmp_path)
    assert [(cause.reason, cause.count, cause.first) for cause in failures] == [
        ("worker process died", 2, "00001"),
        ("stopped before the first measurement", 2, "00003"),
    ]
