"""The report's closing sections: how trials ended, the provenance."""

from __future__ import annotations

import json
from collections import Counter
from html import escape

from analysis.data.reasons import failed_by_reason
from analysis.data.results import Table
from analysis.fronts.objectives import infeasible
from analysis.heldout.measurements import uses_lines
from analysis.material import StudyMaterial
from analysis.method_styles import short_name
from analysis.report.parts.html import bullets, table_html
from analysis.tables.front_table import infeasible_note
from analysis.tables.text_table import TextTable

_STATUSES = ("completed", "stopped_early", "failed")


def failures(table: Table, /) -> list[str]:
    """Return the trials' ends by method, the reasons of failures, and the flags raised."""
    rows = table.select(["trial_id", "method", "status", "reason", "flags"]).to_pylist()
    against = Counter(table.filter(infeasible(table))["method"].to_pylist())
    methods = sorted({row["method"] for row in rows})
    cells = tuple(
        (
            method,
            *(sum(row["method"] == method and row["status"] == status for row in rows) for status in _STATUSES),
            sum(row["method"] == method and row["status"] == "completed" and bool(row["flags"]) for row in rows),
            against[method],
        )
        for method in methods
    )
    failed = failed_by_reason(rows).items()
    reasons = Counter(f"{short_name(row['method'])}: {reason}" for reason, same in failed for row in same)
    flags = Counter(flag for row in rows for flag in row["flags"])
    counts = TextTable(
        title="How trials ended",
        headings=("method", "completed", "stopped early", "failed", "flagged", "infeasible"),
        formats=("", "d", "d", "d", "d", "d"),
        rows=cells,
    )
    return [
        table_html(counts, row_class=methods),
        bullets([f"{number} failed, {reason}" for reason, number in reasons.most_common(20)]),
        bullets([f"{number} flagged {flag}" for flag, number in flags.most_common()]),
        bullets([note] if (note := infeasible_note(table)) else []),
    ]


def provenance_section(material: StudyMaterial, /) -> list[str]:
    """Return code, machines, versions, data split and what was noticed about its images, cost, and the config."""
    table = material.table
    versions = Counter(text for text in table["versions"].to_pylist() if text)
    lines = [
        f"{name.replace('_', ' ')}: {', '.join(sorted(set(map(str, known))))}"
        for name in ("code_revision", "device", "host", "split_hash", "craft_mode")
        if (known := table[name].drop_null().to_pylist())
    ]
    lines += [f"data set: {note}" for note in material.data_notes]
    seconds = sum(table["seconds"].drop_null().to_pylist())
    lines.append(f"worker-hours of all trials: {seconds / 3600:.2f}")
    lines += [f"versions ({number} trials): {_versions(text)}" for text, number in versions.most_common(5)]
    config = f"<h3>Config</h3><pre>{escape(material.config)}</pre>" if material.config else ""
    uses = uses_lines([] if material.on_test is None else material.on_test.evaluations)
    return [bullets([*lines, *uses]), config]


def _versions(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
