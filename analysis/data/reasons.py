"""Why trials failed: their reasons grouped into causes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# reasons stored by earlier versions, and the same reasons today
_FORMER = {
    "the worker died without a word": "worker process died",
    "stopped before anything was measured": "stopped before the first measurement",
}
_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{16,}\b|\d[\d.,]*", re.IGNORECASE)


def failed_by_reason(rows: Iterable[Mapping[str, Any]], /) -> dict[str, list[Mapping[str, Any]]]:
    """Group the failed rows by cause, in order of trial id; each cause is named by the reason of its first trial.

    Reasons that differ only in numbers and addresses are one cause; so are a reason's former and present words.

    Args:
        rows: Result rows with `trial_id`, `status` and `reason`.
    """
    causes: dict[str, tuple[str, list[Mapping[str, Any]]]] = {}
    for row in sorted((row for row in rows if row["status"] == "failed"), key=lambda row: str(row["trial_id"])):
        reason = _FORMER.get(row["reason"], row["reason"]) or "unknown"
        causes.setdefault(_VARYING.sub("#", reason), (reason, []))[1].append(row)
    return dict(causes.values())
