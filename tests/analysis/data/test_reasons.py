"""Reasons of failed trials grouped into causes, and the report's list of them."""

from __future__ import annotations

from helpers.studies.synthetic_results import as_table, result_row

from analysis.data.reasons import failed_by_reason
from analysis.report.provenance_section import failures

FORMER = ("worker process died", "the worker died without a word")
NUMBERS = ("needs 20.5 MiB at 0x7ffe12", "needs 7 MiB at 0xdeadbeef")


def test_former_words_and_numbers_do_not_split_a_cause() -> None:
    reasons = (*FORMER, *NUMBERS, None)
    rows = [result_row(number, status="failed", reason=reason) for number, reason in enumerate(reasons)]
    rows += [result_row(5, status="stopped_early", reason="diverged"), result_row(6)]
    found = failed_by_reason(reversed(rows))
    assert {reason: [row["trial_id"] for row in same] for reason, same in found.items()} == {
        "worker process died": ["t00000", "t00001"],
        "needs 20.5 MiB at 0x7ffe12": ["t00002", "t00003"],
        "unknown": ["t00004"],
    }


def test_the_report_counts_former_and_present_words_as_one_reason() -> None:
    methods = ("trades", "trades", "natural", "natural")
    reasons = (*FORMER, "loss 1.5 is not finite", "loss 27 is not finite")
    rows = [
        result_row(number, status="failed", method=method, reason=reason)
        for number, (method, reason) in enumerate(zip(methods, reasons, strict=True))
    ]
    listed = failures(as_table(rows))[1]
    assert listed == (
        "<ul><li>2 failed, TRADES: worker process died</li><li>2 failed, natural: loss 1.5 is not finite</li></ul>"
    )
