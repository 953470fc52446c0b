"""The command `pareto`: figures and tables of the front, from one or several studies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.console import notes, results
from study.directory.rows import reference_of
from study.errors import UsageError, usage_errors
from study.evaluation.study_separation import note_missing
from study.reports.sources import StudySources, gather, home_of

FORMATS = ("png", "pdf", "svg", "html")


def draw(
    study_dirs: Sequence[Path],
    /,
    *,
    split: str,
    objectives: Sequence[str],
    allow_mixed: bool,
    formats: Sequence[str],
    out: Path | None,
    skip_damaged: bool = False,
    prefer: str | None = None,
    anchors: Path | None = None,
) -> None:
    """Draw and print the front of one or several studies, each method's and settings with several seeds; write tables.

    Args:
        study_dirs: The studies' folders, or exported Parquet files.
        split: `val`, or `test` for chosen members at their test values.
        objectives: Names of the objectives.
        allow_mixed: Put rows of different measurements on one front.
        formats: Some of png, pdf, svg, html.
        out: Folder of the figures; None for `figures/` of the first study.
        skip_damaged: Leave out damaged files, each named in a warning.
        prefer: A value for each objective, separated by commas; the nearest member is printed.
        anchors: File or folder of published results, see `analysis.data.anchors`, drawn behind the front.

    Raises:
        UsageError: Unknown objective or format, an invalid preference, studies that share no front, or unreadable
            results.
    """
    from analysis.data.anchors import read_anchors
    from analysis.fronts.front import on_front, with_mixed_allowed
    from analysis.fronts.objectives import FRONT
    from analysis.plots.trials.pareto import write_pareto

    _check(formats, objectives, anchors)
    if split == "test":
        of_validation = prefer is not None or anchors is not None or allow_mixed or skip_damaged
        _draw_on_test(study_dirs, formats, out, refused=of_validation or tuple(objectives) != FRONT)
        return
    studies = gather(study_dirs, skip_damaged=skip_damaged)
    table = with_mixed_allowed(studies.table) if allow_mixed else studies.table
    folder = out or home_of(study_dirs[0]) / "figures"
    target = None if prefer is None else _target(prefer, objectives)
    with usage_errors(ValueError):
        on_front(table, objectives=objectives)  # raises before anything is written if the rows share no front
        known = {"belief": _belief(studies), "strong": studies.strong()}
        drawn = formats if len(objectives) > 1 else ()
        classifier, published = studies.classifier(), [] if anchors is None else read_anchors(anchors, table)
        beside: dict[str, Any] = {"classifier": classifier, "anchors": published}
        written = write_pareto(table, folder, formats=drawn, objectives=objectives, **beside, **known)
        written += _write_tables(table, folder)
        _print(table, target=target, known=known, reference=reference_of(study_dirs), objectives=objectives)
    notes().print("\n".join(f"wrote {path}" for path in written))
    if classifier is None:
        note_missing(studies.home, table)
    if not drawn:
        notes().print("one objective: a table and data, no figure")


def _write_tables(table: Any, folder: Path) -> list[Path]:
    from analysis.tables.paper_table import write_paper_table
    from analysis.tables.settings_table import write_settings_table

    return write_paper_table(table, folder) + write_settings_table(table, folder)


def _draw_on_test(study_dirs: Sequence[Path], formats: Sequence[str], out: Path | None, *, refused: bool) -> None:
    if refused:
        raise UsageError(
            "--objectives, --prefer, --anchors, --allow-mixed and --skip-damaged apply to validation: leave them out "
            "on test"
        )
    from study.reports.heldout_values import show_on_test

    show_on_test(study_dirs, formats=formats, out=out)


def _check(formats: Sequence[str], objectives: Sequence[str], anchors: Path | None) -> None:
    from analysis.fronts.objectives import FRONT

    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"--format takes some of {', '.join(FORMATS)}, got {unknown[0]!r}")
    if repeated := [name for place, name in enumerate(objectives) if name in objectives[:place]]:
        raise UsageError(f"--objectives names {repeated[0]} twice: name each once")
    if anchors is not None and {*objectives} != {*FRONT}:
        raise UsageError("--anchors are clean and robust accuracies: leave --objectives out")


def _print(
    table: Any,
    /,
    *,
    target: Sequence[float] | None,
    known: Mapping[str, Any],
    reference: Any,
    objectives: Sequence[str],
) -> None:
    from analysis.tables.front_table import front_table, method_fronts_table
    from analysis.tables.settings_table import settings_table

    console = results()
    over: dict[str, Any] = {"objectives": objectives}
    console.print(front_table(table, intervals=True, reference=reference, **known, **over))
    if target is not None:
        console.print(_nearest(table, target, **over))
    console.print(method_fronts_table(table, reference=reference, **over))
    if (seeds := settings_table(table)).rows:
        console.print(seeds)


def _belief(studies: StudySources) -> Any:
    """Return the front's probabilities from the per-example outcomes; None without them, with a note."""
    from analysis.fronts.front import mixed_columns
    from study.reports.posterior import belief_of

    if mixed := mixed_columns(studies.table):
        notes().print(f"no probabilities for the front: its trials differ in {', '.join(mixed)}")
        return None
    return belief_of(studies.sources, studies.table)


def _target(prefer: str, objectives: Sequence[str]) -> list[float]:
    try:
        target = [float(part) for part in prefer.split(",")]
    except ValueError:
        target = []
    if len(target) != len(objectives) or not all(map(math.isfinite, target)):
        raise UsageError(
            f"--prefer takes a number for each of {', '.join(objectives)}, such as "
            f"{','.join(['0.9'] * len(objectives))}, got {prefer!r}"
        )
    return target


def _nearest(table: Any, target: Sequence[float], /, *, objectives: Sequence[str]) -> str:
    """Return a line with the front's member that is nearest to a target, and its values."""
    from analysis.fronts.front import front_of
    from analysis.fronts.member_choice import nearest_member
    from analysis.fronts.objectives import directions, values

    members = front_of(table, objectives=objectives)
    points = values(members, objectives)
    if not len(points):
        return "the front has no members"
    index = nearest_member(points, target, maximise=directions(objectives))
    preferred, nearest = (", ".join(f"{value:.4g}" for value in point) for point in (target, points[index]))
    return f"nearest to ({preferred}): trial {members['trial_id'][index]} at ({nearest})"
