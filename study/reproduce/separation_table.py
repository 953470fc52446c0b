"""Table 1: the exact separation of the classes of each data set; no training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study.console import notes, results
from study.errors import UsageError
from study.evaluation.separation import measured, summary, write
from study.reproduce.grids import SEPARATIONS, DataPart
from study.reproduce.request import TableFiles, TableRequest
from trainables.checkpoints.files import write_text

_NAME = "table1"
_SUMMARY = "summary.json"

Facts = dict[str, Any] | None
"""The `separation.summary` of a line's data set; None if its images are not available."""


def run(request: TableRequest, /) -> TableFiles:
    """Measure every available data set of the table that was not measured yet, and write the table.

    Raises:
        UsageError: None of the data sets is available, or options that table 1 does not take.
    """
    _check(request)
    lines: list[Facts] = []
    missing = []
    for part in SEPARATIONS[request.scale]:
        try:
            lines.append(_facts(part, request))
        except UsageError as error:
            missing.append(f"{part.dataset}: {error}")
            lines.append(None)
    if len(missing) == len(lines):
        raise UsageError(*missing)
    return _write_table(request, lines, missing), missing


def dry_run(request: TableRequest, /) -> None:
    """Print which data sets the table measures, and how many images of each.

    Raises:
        UsageError: Options that table 1 does not take.
    """
    _check(request)
    console = results()
    console.print(f"{request.title}, in {request.home}")
    for part in SEPARATIONS[request.scale]:
        amount = "all images" if part.train is None else f"{part.train} training and {part.test} test images"
        folder = _folder(part, request)
        state = "measured" if (folder / _SUMMARY).is_file() else "to be measured"
        console.print(f"  {part.dataset}: {amount}, linf, compared with radius {part.epsilon:g}; {state} in {folder}")
    console.print(
        "time: exact linf distances of all pairs take about half a minute for MNIST on two cores, two for CIFAR-10; "
        "no training"
    )
    console.print("nothing was started")


def _check(request: TableRequest) -> None:
    for value, option in ((request.address, "--address"), (request.assignments, "--set")):
        if value:
            raise UsageError(f"table1 trains nothing and has no config: leave {option} out")


def _folder(part: DataPart, request: TableRequest) -> Path:
    return request.home / f"{part.dataset}-linf"


def _facts(part: DataPart, request: TableRequest) -> dict[str, Any]:
    """Return the `separation.summary` of a data set's distances, which are measured only once."""
    folder = _folder(part, request)
    path = folder / _SUMMARY
    taken = {"train": part.train, "test": part.test}
    if path.is_file():
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if saved["taken"] == taken:
            notes().print(f"{part.dataset}: measured before; to measure other files of it, give another --out")
            return saved
    notes().print(f"measuring {part.dataset}")
    distances, name = measured(part.dataset, norm="linf", data_root=request.data_root, train=part.train, test=part.test)
    write(distances, folder, name=name, epsilon=part.epsilon)
    facts = summary(distances, name=name, epsilon=part.epsilon) | {"taken": taken}
    write_text(path, json.dumps(facts, indent=2))
    return facts


def _write_table(request: TableRequest, lines: Sequence[Facts], missing: Sequence[str]) -> list[Path]:
    from analysis.tables.text_table import TextTable, write_forms

    parts = SEPARATIONS[request.scale]
    columns: dict[str, list[Any]] = {
        "dataset": [part.dataset for part in parts],
        "train_images": [_of(line, "train-train", "examples") for line in lines],
        "test_images": [_of(line, "test-train", "examples") for line in lines],
        "epsilon": [part.epsilon for part in parts],
        "train_train": [_of(line, "train-train", "two_r") for line in lines],
        "test_train": [_of(line, "test-train", "two_r") for line in lines],
        "train_train_consistent": [_of(line, "train-train", "two_r_without_contradicting") for line in lines],
        "test_train_consistent": [_of(line, "test-train", "two_r_without_contradicting") for line in lines],
        "contradicting": [None if line is None else sum(map(len, line["contradicting_duplicates"])) for line in lines],
    }
    columns["ratio"] = [_ratio(line, part.epsilon) for line, part in zip(lines, parts, strict=True)]
    headings = ("data set", "train images", "test images", "ε", "train-train 2r", "test-train 2r")
    shown = TextTable(
        title=request.title,
        headings=(*headings, "train-train 2r*", "test-train 2r*", "contradicting", "2r* / 2ε"),
        formats=("", ",d", ",d", "g", ".4g", ".4g", ".4g", ".4g", ",d", ".3g"),
        rows=tuple(zip(*columns.values(), strict=True)),
        notes=(
            "2r: smallest linf distance between images of different labels, exact, pixels in [0, 1]; *: without the "
            "images that are identical to one of another label, which are counted under contradicting",
            "2r* / 2ε: the smaller of both over twice the radius; above 1 a classifier that is accurate, robust and "
            "locally smooth exists on these images",
            request.remark,
            *(f"not in this table, {line}" for line in missing),
        ),
    )
    return write_forms(shown, columns, request.home, name=_NAME)


def _of(line: Facts, pairs: str, name: str) -> Any:
    return None if line is None else line["pairs"][pairs][name]


def _ratio(line: Facts, epsilon: float) -> float | None:
    two_r = [_of(line, pairs, "two_r_without_contradicting") for pairs in ("train-train", "test-train")]
    smallest = min((value for value in two_r if value is not None), default=None)
    return None if smallest is None else smallest / (2 * epsilon)
