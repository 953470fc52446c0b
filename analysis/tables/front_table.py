"""The front as a table: for terminals, plain text, Markdown and CSV; and a figure's data as CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.data.results import Table
from analysis.data.schema import RESULT
from analysis.fronts.front import Hypervolume, feasible, front_hypervolume, front_of, on_front, on_infeasible_front
from analysis.fronts.member_choice import fronts_by, knee_of
from analysis.fronts.objectives import FRONT, infeasible, objective, values
from analysis.fronts.strong_attacks import StrongResult, certified_of, strong_notes
from analysis.statistics.front_posterior import UNDECIDED, FrontPosterior
from analysis.statistics.intervals import accuracy_estimate
from analysis.tables.text_table import Cell, TextTable, csv_text
from analysis.wording import LOWER_BOUND, constraints_missed, flagged, measured_by, own_parameters, provenance

LIKELY = 0.1
"""Least probability for which a dominated trial is named as one that may be on the front."""

MOST_NAMED = 5

_CERTIFIED = "val_certified_accuracy"

_PROVED = "certified: proved correct at every point of the ball; certified <= robust <= clean"

CERTIFIED_NOTE = (
    f"{_PROVED}. Where the search proved none: the robust accuracy less the share of the first images, attacked at the "
    "end, that is left and not proved"
)

Column = tuple[str, str, Callable[[Mapping[str, Any]], Cell]]

FRONT_COLUMNS: tuple[Column, ...] = (
    ("trial", "", lambda row: row["trial_id"]),
    ("method", "", lambda row: row["method"]),
    ("dropout", ".3f", lambda row: row.get("param.dropout")),
    ("strength", "", lambda row: own_parameters(row)),
    ("train ε", ".4f", lambda row: row["train_epsilon"]),
    ("clean (val)", ".4f", lambda row: row["val_clean_accuracy"]),
    ("robust (val)", ".4f", lambda row: row["val_robust_accuracy"]),
    ("Lipschitz (val)", ".4g", lambda row: row["val_lipschitz_mean"]),
)
"""Heading, format and reader of each column."""


def front_table(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    reference: Mapping[str, float] | None = None,
    intervals: bool = False,
    belief: FrontPosterior | None = None,
    strong: Mapping[str, StrongResult] | None = None,
) -> TextTable:
    """Return the front of a result table: one line per member, best in the first objective first.

    The notes give the hypervolume with its reference point, the knee, the attack, and the numbers of trials and
    failures; objectives other than clean and robust accuracy have a column each and are named in the title.

    Args:
        table: Result rows.
        objectives: Names from `OBJECTIVES`.
        reference: Reference values of the hypervolume by objective; the objective's own where not given.
        intervals: Show Wilson intervals of the accuracies.
        belief: Posterior of the front in clean and robust accuracy: members' probabilities of being truly on it, and
            its true hypervolume.
        strong: Members' values under strong attacks, by trial.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    members = front_of(table, objectives=objectives)
    prefixed = all(row["trial_id"].startswith(f"{row['study']}/") for row in members.to_pylist())
    several = len(set(table["study"].to_pylist())) > 1 and not prefixed
    posterior = belief if tuple(objectives) == FRONT else None
    columns: tuple[Column, ...] = (("study", "", lambda row: row["study"]),) if several else ()
    columns += tuple(one for entry in FRONT_COLUMNS for one in _with_interval(entry, wanted=intervals))
    columns += _extra(objectives)
    known, trials_shown = strong or {}, members["trial_id"].to_pylist()
    if attacked := strong_notes(known, trials_shown):
        columns += (("robust (strong)", "", lambda row: str(known.get(row["trial_id"], ""))),)
    columns += (certified := () if _CERTIFIED in objectives else certified_column(members.to_pylist(), known))
    if posterior and posterior.decided:
        probabilities = posterior.probabilities()
        columns += (("P(on front)", ".2f", lambda row: probabilities.get(row["trial_id"])),)
    volume = front_hypervolume(table, objectives=objectives, reference=reference)
    knee = knee_of(members, objectives=objectives)
    truly = f"; of the true accuracies {posterior.hypervolume(reference=volume.reference)}" if posterior else ""
    notes = [volume_note(volume, objectives) + truly + (f"; knee: trial {knee}" if knee else "")]
    notes += _uncertainty_notes(members, intervals=intervals, belief=posterior)
    if table.num_rows:
        notes += [f"robust: {measured_by(table)}; Lipschitz: mean, {LOWER_BOUND}", provenance(table)]
    notes += [*attacked, *([CERTIFIED_NOTE] if certified else [_PROVED] if _CERTIFIED in objectives else [])]
    over = "" if set(objectives) == set(FRONT) else f" over {', '.join(objectives)}"
    notes += [doubts] if (doubts := flagged(table)) else []
    notes += [apart] if (apart := infeasible_note(table, objectives)) else []
    notes += [useless] if (useless := _smooth_but_useless(members, table)) else []
    size, trials = members.num_rows, table.num_rows
    return column_table(
        f"Front on validation{over}: {size} member{'s' * (size != 1)} of {trials} trial{'s' * (trials != 1)}",
        columns,
        members.to_pylist(),
        notes=notes,
    )


def certified_column(rows: Sequence[Mapping[str, Any]], strong: Mapping[str, StrongResult], /) -> tuple[Column, ...]:
    """Return the column of what is certified of the rows' trials; none where nothing is."""
    proved = {row["trial_id"]: certified_of(row, strong.get(row["trial_id"])) for row in rows}
    if all(value is None for value in proved.values()):
        return ()
    return (("certified (val)", ".4f", lambda row: proved[row["trial_id"]]),)


def column_table(
    title: str, columns: Iterable[Column], rows: Iterable[Mapping[str, Any]], /, *, notes: Iterable[str]
) -> TextTable:
    """Return rows as a table, given each column's heading, format and how it is read from a row."""
    headings, formats, readers = zip(*columns, strict=True)
    cells = tuple(tuple(read(row) for read in readers) for row in rows)
    return TextTable(title=title, headings=headings, formats=formats, rows=cells, notes=tuple(notes))


def infeasible_note(table: Table, objectives: Sequence[str] = FRONT, /, *, most: int = 10) -> str:
    """Describe the trials that miss a constraint and the front that they form; empty for none."""
    count = int(infeasible(table).sum())
    if not count:
        return ""
    ids = table.filter(on_infeasible_front(table, objectives=objectives))["trial_id"].to_pylist()
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return (
        f"infeasible, never on the front: {count} trial{'s' * (count != 1)} missed {constraints_missed(table)}; "
        f"non-dominated among themselves: {', '.join(ids[:most]) or 'none'}{more}"
    )


def volume_note(volume: Hypervolume, objectives: Sequence[str], /) -> str:
    """Describe a hypervolume: value, objectives, reference point, members beyond it."""
    over = "clean, robust" if tuple(objectives) == FRONT else ", ".join(objectives)
    reference = ", ".join(f"{value:g}" for value in volume.reference)
    beyond = f"; {volume.beyond} members beyond it add no volume" if volume.beyond else ""
    return f"hypervolume {volume.value:.4f} over ({over}), reference point ({reference}){beyond}"


def _with_interval(entry: Column, *, wanted: bool) -> tuple[Column, ...]:
    """Return a column, followed by its Wilson intervals if it is an accuracy."""
    kind = entry[0].partition(" ")[0]
    if not wanted or kind not in ("clean", "robust"):
        return (entry,)

    def read(row: Mapping[str, Any]) -> Cell:
        low, high = _ends(row[f"val_{kind}_accuracy"], row["examples"])
        return None if low is None else f"[{low:.3f}, {high:.3f}]"

    return (entry, (f"{kind} interval", "", read))


def _uncertainty_notes(members: Table, *, intervals: bool, belief: FrontPosterior | None) -> list[str]:
    """Explain the intervals and probabilities, and name the dominated trials that may be on the front."""
    notes = ["intervals: 95 %, Wilson's, of the examples"] if intervals else []
    if belief is not None and not belief.decided:
        notes.append(UNDECIDED)
    elif belief is not None:
        notes.append(
            "P(on front): that no other trial truly dominates it, given each example's outcome (± 0.02 from sampling)"
        )
        off = {
            trial: chance
            for trial, chance in sorted(belief.probabilities().items(), key=lambda entry: -entry[1])
            if chance >= LIKELY and trial not in members["trial_id"].to_pylist()
        }
        named = [f"{trial} ({chance:.2f})" for trial, chance in list(off.items())[:MOST_NAMED]]
        more = f" and {len(off) - MOST_NAMED} more" if len(off) > MOST_NAMED else ""
        notes += [f"dominated as measured, P >= {LIKELY}: {', '.join(named)}{more}"] if named else []
    return notes


def _smooth_but_useless(members: Table, table: Table) -> str:
    """Name the members with less than half the clean accuracy of the best trial; empty for none.

    A network that has collapsed to a constant is perfectly smooth, so it is on a front over Lipschitzness.
    """
    sound = values(table.filter(feasible(table)), FRONT[:1])
    named = [
        f"{trial} ({clean:.2f})"
        for trial, clean in zip(members["trial_id"].to_pylist(), values(members, FRONT[:1])[:, 0], strict=True)
        if clean < 0.5 * np.nanmax(sound)
    ]
    return (
        f"smooth but of little use, clean accuracy below half of the best: {', '.join(named)}; a constraint such as "
        "`val_clean_accuracy >= 0.9` (search.constraints) keeps such trials off a study's fronts"
        if named
        else ""
    )


def _extra(objectives: Sequence[str]) -> tuple[Column, ...]:
    """Return a column for each objective that `FRONT_COLUMNS` lack: transformed, or certified accuracy.

    The latter is 0 where bounds were asked for and prove nothing, as the front takes it.
    """
    named = {name: (name, ".3f") for name in objectives if objective(name).log10_floor is not None}
    named[_CERTIFIED] = ("certified (val)", ".4f")
    return tuple(
        (*named[name], lambda row, name=name: float(values(row, [name])[0])) for name in objectives if name in named
    )


def pareto_csv(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    belief: FrontPosterior | None = None,
    strong: Mapping[str, StrongResult] | None = None,
) -> str:
    """Return all rows of a result table as CSV, without times and machines.

    First come `on_front`, `feasible`, `on_infeasible_front` (the front of those that miss a constraint),
    `on_front_probability` if known, what `strong` tells of front members (robust accuracy, the change on the same
    images, their number, the attacks, doubts, the share certified), and the ends of the accuracies' Wilson intervals.
    """
    masks = {
        "on_front": on_front(table, objectives=objectives).tolist(),
        "feasible": feasible(table).tolist(),
        "on_infeasible_front": on_infeasible_front(table, objectives=objectives).tolist(),
    }
    names = [name for name in table.column_names if name not in RESULT.by_name or RESULT.by_name[name].deterministic]
    probabilities = {} if belief is None else belief.probabilities()
    cells = []
    for *marks, row in zip(*masks.values(), table.to_pylist(), strict=True):
        ends = [_ends(row[name], row["examples"]) for name in FRONT]
        values_ = (" ".join(row[name]) if isinstance(row[name], list) else row[name] for name in names)
        chance, attacked = probabilities.get(row["trial_id"]), _strong_cells((strong or {}).get(row["trial_id"]))
        cells.append([*marks, chance, *attacked, *(end for pair in ends for end in pair), *values_])
    added = [f"{name}_{end}" for name in FRONT for end in ("low", "high")]
    return csv_text([*masks, "on_front_probability", *_STRONG, *added, *names], cells)


_STRONG = (
    "strong_robust_accuracy", "strong_change", "strong_images", "strong_attacks", "strong_doubts", "strong_certified",
)  # fmt: skip


def _strong_cells(result: StrongResult | None) -> tuple[Cell, ...]:
    """Return the values of the columns `_STRONG`."""
    if result is None:
        return (None,) * len(_STRONG)
    texts = "; ".join(result.attacks), "; ".join(result.doubts)
    return (result.robust, 0.0 - result.fall, result.images, *texts, result.certified)


def _ends(accuracy: float | None, examples: int | None) -> tuple[float | None, float | None]:
    """Return the ends of an accuracy's 95 % Wilson interval, None where it is not known."""
    if accuracy is None or not math.isfinite(accuracy) or not examples:
        return None, None
    estimate = accuracy_estimate(accuracy, examples)
    return estimate.low, estimate.high


def method_fronts_table(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    reference: Mapping[str, float] | None = None,
) -> TextTable:
    """Return the front of each method alone: its members, best in the first objective first, and its hypervolume.

    Args:
        table: Result rows.
        objectives: Names from `OBJECTIVES`.
        reference: Reference values of the hypervolume by objective; the objective's own where not given.

    Raises:
        MixedStudiesError: A method's rows differ in what they measure; see `require_like_for_like`.
    """
    fronts = fronts_by(table, "method", objectives=objectives)
    trials = table["method"].to_pylist()
    measured: list[tuple[float, str, Table]] = []
    for method, members in fronts.items():
        volume = front_hypervolume(members, objectives=objectives, reference=reference)
        measured.append((volume.value, method, members))
    return TextTable(
        title="Fronts of each method alone",
        headings=("method", "trials", "members", "hypervolume"),
        formats=("", "d", "", ".4f"),
        rows=tuple(
            (method, trials.count(method), ", ".join(members["trial_id"].to_pylist()), volume)
            for volume, method, members in sorted(measured, key=lambda one: -one[0])
        ),
    )
