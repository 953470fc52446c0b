"""The command `separation`: how far apart a data set's classes are, exactly, and what follows from it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config.values import parsed_number
from study.console import PairProgress, notes, results
from study.errors import UsageError, usage_errors
from trainables.spec import EvaluationSpec, Norm

if TYPE_CHECKING:
    from trainables.separation.distances import Separation

_SHOWN = 10


def separation(
    dataset: str,
    /,
    *,
    norm: Norm,
    data_root: Path | None,
    train: int | None,
    test: int | None,
    epsilon: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Measure a data set's separation, print it, and write distances, figure and lists to a folder.

    Args:
        dataset: As `dataset.name` in a study.
        norm: `linf` or `l2`.
        data_root: Folder of the data sets.
        train: First training images taken, in file order; all when None.
        test: First test images taken.
        epsilon: Radius to judge by, such as 8/255; a study's default when None.
        out: Folder under which the results' own folder is made.
        as_json: Print one JSON object instead of a table.

    Raises:
        UsageError: Unknown data set, no files, counts or radius out of range, or other results in the folder.
    """
    radius = radius_of(epsilon, norm)
    distances, name = measured(dataset, norm=norm, data_root=data_root, train=train, test=test)
    cuts = "".join(f"-{split}{count}" for split, count in (("train", train), ("test", test)) if count is not None)
    files = write(distances, out / f"{name.replace(':', '.')}-{norm}{cuts}", name=name, epsilon=radius)
    if as_json:
        facts = summary(distances, name=name, epsilon=radius) | {"files": [str(path) for path in files]}
        results().print(json.dumps(facts, indent=2))
        return
    results().print(_table(distances, name=name, epsilon=radius))
    for path in files:
        notes().print(f"wrote {path}")


def measured(
    dataset: str, /, *, norm: Norm, data_root: Path | None, train: int | None, test: int | None
) -> tuple[Separation, str]:
    """Return a data set's separation and its name; see `separation` for the arguments, and for what is raised."""
    from trainables.data import DataError, load_raw
    from trainables.data.inspection import notes_on_images
    from trainables.registry import UnknownNameError
    from trainables.separation.distances import measure_separation

    with usage_errors(DataError, UnknownNameError):
        raw, name = load_raw(dataset, root=None if data_root is None else str(data_root))
    for note in (*raw.notes, *notes_on_images(raw)):
        notes().print(f"data set {name}: {note}")
    splits = {
        "train": _first(raw.train_images, raw.train_labels, train, "--train"),
        "test": _first(raw.test_images, raw.test_labels, test, "--test"),
    }
    with PairProgress() as progress:
        distances = measure_separation(splits, norm=norm, scale=raw.scale, on_progress=progress.update)
    return distances, name


def write(distances: Separation, folder: Path, /, *, name: str, epsilon: float) -> list[Path]:
    """Write the per-example distances, the figure with its data, and the contradicting duplicates.

    Raises:
        UsageError: The folder holds other distances.
    """
    from analysis.data.results import read_separation, write_columns
    from analysis.data.schema import SEPARATION, ResultsError
    from analysis.plots.networks.separation import write_separation
    from analysis.tables.text_table import csv_text

    path = folder / "distances.parquet"
    try:
        write_columns(path, columns(distances, name=name), SEPARATION)
    except ResultsError as error:
        raise UsageError(f"{path} holds other distances; move it away, or choose another folder with --out") from error
    duplicates = folder / "contradicting_duplicates.csv"
    rows = [(number, *astuple(example)) for number, group in enumerate(distances.contradicting) for example in group]
    duplicates.write_text(csv_text(("group", "split", "index", "label"), rows), encoding="utf-8")
    return [path, duplicates, *write_separation(read_separation(path), folder, epsilon=epsilon)]


def columns(distances: Separation, /, *, name: str) -> dict[str, Any]:
    """Return the per-example distances as columns of the separation schema."""
    from trainables.separation.distances import PAIRS, in_units

    contradicting = {(example.split, example.index) for group in distances.contradicting for example in group}
    built: dict[str, list[Any]] = {}
    for part in distances.pairs:
        split, count = PAIRS[part.pairs][0], len(part.labels)
        known = part.nearest.found.tolist()
        distance = in_units(part.nearest.distance, norm=distances.norm, scale=distances.scale)
        certified = part.pairs == "test-train"
        own = [value if math.isfinite(value) else None for value in distances.certificate.own.tolist()]
        rows: dict[str, list[Any]] = {
            "dataset": [name] * count,
            "norm": [distances.norm] * count,
            "scale": [distances.scale] * count,
            "pairs": [part.pairs] * count,
            "split": [split] * count,
            "index": list(range(count)),
            "label": part.labels.tolist(),
            "distance": _known(distance.tolist(), known),
            "levels": _known(part.nearest.distance.tolist(), known),
            "nearest_index": _known(part.nearest.index.tolist(), known),
            "nearest_label": _known(part.nearest_labels.tolist(), known),
            "contradicting": [(split, index) in contradicting for index in range(count)],
            "own_distance": own if certified else [None] * count,
            "certified_radius": distances.certificate.radius.tolist() if certified else [None] * count,
        }
        for column, values in rows.items():
            built.setdefault(column, []).extend(values)
    return built


def summary(distances: Separation, /, *, name: str, epsilon: float) -> dict[str, Any]:
    """Return what the separation says in a few numbers, as JSON takes it; null where there is no such pair."""
    from trainables.separation.distances import in_units

    units = partial(in_units, norm=distances.norm, scale=distances.scale)

    def half(value: float | None) -> float | None:
        return None if value is None else value / 2

    return {
        "dataset": name,
        "norm": distances.norm,
        "scale": distances.scale,
        "two_r": distances.two_r,
        "r": half(distances.two_r),
        "two_r_without_contradicting": distances.consistent_two_r,
        "r_without_contradicting": half(distances.consistent_two_r),
        "epsilon": epsilon,
        "pairs": {
            part.pairs: {
                "examples": len(part.labels),
                "two_r": distances.in_units(part.minimum),
                "two_r_without_contradicting": distances.in_units(part.consistent_minimum),
                "closest": None if part.closest is None else [asdict(example) for example in part.closest],
                "within_two_epsilon": int((units(part.nearest.distance) <= 2 * epsilon).sum()),
            }
            for part in distances.pairs
        },
        "contradicting_duplicates": [[asdict(example) for example in group] for group in distances.contradicting],
        "separated_data_classifier": {
            "test_accuracy": distances.certificate.accuracy(0.0),
            "certified_test_accuracy_at_epsilon": distances.certificate.accuracy(epsilon),
        },
    }


def radius_of(text: str | None, norm: Norm, /) -> float:
    """Return a radius that a user gave, or a study's default.

    Raises:
        UsageError: It is no number, or out of range.
    """
    if text is None:
        return EvaluationSpec().epsilon
    try:
        number = float(text) if (parsed := parsed_number(text)) is None else parsed
    except ValueError as error:
        raise UsageError(f"--epsilon must be a number such as 0.1 or 8/255, got {text!r}") from error
    if norm == "linf":
        try:
            EvaluationSpec(epsilon=number)
        except ValueError as error:
            raise UsageError(f"--epsilon {str(error).removeprefix('`epsilon` ')}") from error
    if not 0 <= number < math.inf:
        raise UsageError(f"--epsilon must be finite and at least 0, got {text}")
    return number


def _first(images: Any, labels: Any, count: int | None, option: str) -> tuple[Any, Any]:
    if count is not None and not 1 <= count <= len(labels):
        raise UsageError(f"{option} must be in 1..{len(labels)}, the images there are, got {count}")
    return images[:count], labels[:count]


def _table(distances: Separation, *, name: str, epsilon: float) -> Any:
    from analysis.tables.text_table import TextTable

    facts = summary(distances, name=name, epsilon=epsilon)
    rows = []
    for part in distances.pairs:
        numbers = facts["pairs"][part.pairs]
        closest = " - ".join(f"{one.split} {one.index} ({one.label})" for one in part.closest or ())
        rows.append((
            part.pairs, len(part.labels), numbers["two_r"], numbers["two_r_without_contradicting"], closest,
            numbers["within_two_epsilon"],
        ))  # fmt: skip
    return TextTable(
        title=f"Separation of {name} in {distances.norm}: nearest examples of another label, exact, in [0, 1] units",
        headings=("pairs", "examples", "2r", "2r without contradicting", "closest (label)", "at most 2ε"),
        formats=("", ",d", ".6g", ".6g", "", ",d"),
        rows=tuple(rows),
        notes=tuple(_remarks(distances, facts)),
    )


def _remarks(distances: Separation, facts: dict[str, Any]) -> list[str]:
    epsilon, classifier = facts["epsilon"], facts["separated_data_classifier"]
    lines = []
    for key, of in (("r", "all images"), ("r_without_contradicting", "images that contradict none")):
        value = facts[key]
        if value is not None and (key == "r" or distances.contradicting):
            above = f"above ε = {epsilon:.6g}: some classifier is right everywhere within ε of each of them"
            below = f"not above ε = {epsilon:.6g}: the theorem promises no robust classifier of them"
            lines.append(f"r = {value:.6g} over {of}, {above if value > epsilon else below}")
    if facts["r"] is None:
        lines.append("all images have one label: there is no separation to measure")
    lines.append(
        f"separated-data classifier on test: accuracy {classifier['test_accuracy']:.4f}, "
        f"certified {classifier['certified_test_accuracy_at_epsilon']:.4f} at ε = {epsilon:.6g}"
    )
    if distances.contradicting:
        count = len(distances.contradicting)
        lines.append(f"{count} group{'s' * (count != 1)} of identical images with different labels:")
        lines += [
            "  " + " = ".join(f"{one.split} {one.index} ({one.label})" for one in group)
            for group in distances.contradicting[:_SHOWN]
        ]
        if count > _SHOWN:
            lines.append(f"  and {count - _SHOWN} more in contradicting_duplicates.csv")
    return lines


def _known(values: list[Any], known: list[bool]) -> list[Any]:
    return [value if there else None for value, there in zip(values, known, strict=True)]
