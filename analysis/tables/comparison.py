"""Compare two studies: their settings, and their methods if they were measured alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.data.nested import flat
from analysis.data.results import Table
from analysis.data.schema import RESULT
from analysis.statistics.front_posterior import FrontPosterior
from analysis.statistics.intervals import Estimate, Outcomes, accuracy_of, difference, paired_difference_interval
from analysis.tables.accuracy_lines import line_table
from analysis.tables.paper_table import FORMATS, HEADINGS, dropout_levels, dropouts, paper_lines
from analysis.tables.text_table import TextTable

_SETTINGS = ("dataset", "model", "method", "norm", "eval_epsilon", "attack", "steps", "restarts", "examples")
_MACHINE = ("code_revision", "device", "host", "threads")
_OWN = {"name", "tracking", "storage", "cluster", "resources"}
"""Keys of a config for where a study ran, not what it measured."""

MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two studies.

    Args:
        label: Its name on the page.
        table: Its result rows, all measured alike; of several studies `analysis.data.combine.relabelled`.
        config: Its config, empty where unknown.
        belief: Posterior of its front given the per-example outcomes.
        outcomes: Per-example outcomes on validation of each method's best trial, if there are any.
    """

    label: str
    table: Table
    config: Mapping[str, Any] = field(default_factory=dict)
    belief: FrontPosterior | None = None
    outcomes: Outcomes | None = None


def unlike_columns(first: Side, second: Side, /) -> list[str]:
    """Return the columns in which the studies measured different things; empty if they can share a front."""
    return [
        name for name in RESULT.like_for_like_columns() if _values(first.table, name) != _values(second.table, name)
    ]


def differences(first: Side, second: Side, /) -> TextTable:
    """Return the differences in measurement, data, methods, versions, machines and config, measurement first."""
    unlike = unlike_columns(first, second)
    columns = dict.fromkeys([*unlike, *_SETTINGS, *_MACHINE])
    rows = [
        ("measurement" if name in unlike else "rows", name, _shown(first.table, name), _shown(second.table, name))
        for name in columns
        if _values(first.table, name) != _values(second.table, name)
    ]
    rows += [("versions", *line) for line in _changed(_versions(first.table), _versions(second.table))]
    configs = [_settings(side) for side in (first, second)]
    if all(configs):
        rows += [("config", *line) for line in _changed(*configs)]
    return TextTable(
        title="What differs",
        headings=("where", "what", first.label, second.label),
        formats=("", "", "", ""),
        rows=tuple(rows),
        notes=() if rows else ("No recorded setting differs.",),
    )


def paired_lines(first: Side, second: Side, /) -> TextTable:
    """Return the paper's table of both studies, the lines of one method and dropout together."""
    sides = (first, second)
    levels = dropout_levels([rate for side in sides for rate in dropouts(side.table)])
    cut = first.table.num_rows
    parts = (levels[:cut], levels[cut:])
    lines = [
        replace(line, cells={**line.cells, "study": side.label})
        for side, own_levels in zip(sides, parts, strict=True)
        for line in paper_lines(side.table, levels=own_levels)
    ]
    return line_table(
        "Per method and dropout: each study's trial with the highest validation robust accuracy",
        sorted(lines, key=lambda line: (line.cells["method"], line.cells["dropout"])),
        {name: HEADINGS[name] for name in ("method", "dropout")} | {"study": "study"} | HEADINGS,
        formats=FORMATS,
        notes=("validation, not test; 95 % intervals of the examples, not corrected for selection",),
    )


def difference_table(first: Side, second: Side, /) -> TextTable:
    """Compare on validation the most robust sound trials of each method of both studies, which must be measured alike.

    Accuracies are the second's minus the first's with 95 % intervals, from the outcomes of
    each example if both have them.
    """
    best = [best_of_methods(side.table) for side in (first, second)]
    cells = []
    for method in sorted(best[0].keys() & best[1].keys()):
        rows = (best[0][method], best[1][method])
        trials = (rows[0]["trial_id"], rows[1]["trial_id"])
        pair = _paired(first.outcomes, second.outcomes, trials)
        values = pair or [
            difference(accuracy_of(rows[1], f"val_{kind}"), accuracy_of(rows[0], f"val_{kind}"))
            for kind in ("clean", "robust")
        ]
        cells.append((method, *trials, *(value.signed() for value in values), "pairs" if pair else "shares"))
    return TextTable(
        title=f"{second.label} minus {first.label}, per method: each study's most robust sound trial",
        headings=("method", f"trial of {first.label}", f"trial of {second.label}", "clean (val)", "robust (val)", "by"),
        formats=("", "", "", "", "", ""),
        rows=tuple(cells),
        notes=(
            "95 % intervals: by pairs, Tango's of the outcomes of the same examples; by shares, Newcombe's, which is "
            "wider. Examples' noise only: neither the seed's luck, nor that of the best of many trials, which is "
            f"larger where there are more of them ({first.table.num_rows} and {second.table.num_rows} trials)",
        ),
    )


def best_of_methods(table: Table, /) -> dict[str, Mapping[str, Any]]:
    """Return by method the row of the sound trial with the highest validation robust accuracy."""
    rows = {row["trial_id"]: row for row in table.to_pylist()}
    lines = paper_lines(table, levels=[""] * table.num_rows)
    return {str(line.cells["method"]): rows[line.cells["trial"]] for line in lines if line.cells["trial"] is not None}


def _paired(
    first: Outcomes | None, second: Outcomes | None, trials: tuple[str, str]
) -> tuple[Estimate, Estimate] | None:
    if first is None or second is None or trials[0] not in first.trials or trials[1] not in second.trials:
        return None
    if len(first.index) != len(second.index) or (first.index != second.index).any():
        return None
    places = (first.trials.index(trials[0]), second.trials.index(trials[1]))
    differences = []
    for old, new in ((first.clean, second.clean), (first.robust, second.robust)):
        before, after = old[places[0]], new[places[1]]
        gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
        low, high = paired_difference_interval(gained, lost, n)
        differences.append(Estimate(value=(gained - lost) / n, low=float(low), high=float(high)))
    return differences[0], differences[1]


def _values(table: Table, name: str) -> set[Any]:
    return set(table[name].drop_null().to_pylist())


def _shown(table: Table, name: str) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(_values(table, name)))


def _versions(table: Table) -> dict[str, str]:
    versions_of: dict[str, set[str]] = {}
    for text in _values(table, "versions"):
        for name, version in json.loads(text).items():
            versions_of.setdefault(name, set()).add(str(version))
    return {name: ", ".join(sorted(versions)) for name, versions in versions_of.items()}


def _settings(side: Side) -> dict[str, str]:
    tree = {key: value for key, value in side.config.items() if key not in _OWN}
    return {key: json.dumps(value) for key, value in flat(tree).items() if value != {}}


def _changed(first: Mapping[str, str], second: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [
        (name, first.get(name, MISSING), second.get(name, MISSING))
        for name in dict.fromkeys([*first, *second])
        if first.get(name, MISSING) != second.get(name, MISSING)
    ]
