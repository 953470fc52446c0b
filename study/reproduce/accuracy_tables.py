"""Tables 2 to 4: their studies are run one after another, then each trial of a grid becomes a line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from analysis.wording import attack_name
from study.config.changes import refused_changes
from study.config.loading import load_config, write_yaml
from study.config.paths import resolved
from study.config.schema import StudyConfig
from study.console import notes, results
from study.directory.layout import CONFIG_FILE, open_config
from study.directory.rows import count_rows, evaluation_rows, read_rows
from study.errors import UsageError
from study.lifecycle.background import interpreter
from study.reproduce.grids import Tree, parts
from study.reproduce.request import TableFiles, TableRequest
from trainables.data import DataError, check_available

if TYPE_CHECKING:
    from analysis.tables.grid_table import Grid


_RUN_LENGTH = ("num_trials", "seeds", "time_budget")
"""Keys of `search` that a resumed study takes from the command: with them it may have ended before its grid."""


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A study of the table.

    Its config as nested values, the same checked with `--set`, its folder, and why it cannot run (None if it can).
    """

    tree: Tree
    config: StudyConfig
    folder: Path
    problem: str | None

    @property
    def started(self) -> bool:
        return (self.folder / CONFIG_FILE).is_file()

    def done(self) -> int:
        """Return how many trials have a result row."""
        return count_rows(self.folder) if self.started else 0

    def check_settings(self) -> None:
        """Check that a started study has the settings of this command, as all studies of a table must.

        Raises:
            UsageError: It was started with others.
        """
        if not self.started:
            return
        stored, seeds = open_config(self.folder), self.config.search.seeds
        lines = list(refused_changes(stored.to_dict(), resolved(self.config)).values())
        if stored.search.seeds > seeds:
            lines.append(f"`search.seeds` was {stored.search.seeds} when the study was run and is {seeds} now")
        if lines:
            raise UsageError(
                *lines,
                f"{self.folder} was started with other settings: give the --set it was started with and no other, or "
                "another --out",
            )

    def unavailable(self) -> str | None:
        """Return a line on why it cannot run; None if it can."""
        return None if self.problem is None else f"{self.config.name}: {self.problem}"

    def not_run(self) -> str | None:
        """Return a line on the trials of the grid that have no result row; None if all have one."""
        size = len(self.config.space().grid()) * self.config.search.seeds
        left = size - self.done()
        if left <= 0:
            return None
        cut = "left out by search.num_trials or search.time_budget: run it without them"
        return f"{self.config.name}: {left} of the grid's {size} trials, {cut}"


def run(request: TableRequest, /) -> TableFiles:
    """Run every study of a table to completion, and write the table.

    Raises:
        UsageError: No data set is available, the input is invalid, or a study was started with other settings.
        SystemExit: A study ended before it was complete.
    """
    planned = _plan(request)
    missing = [line for each in planned if (line := each.unavailable())]
    if len(missing) == len(planned):
        raise UsageError(*missing)
    for each in planned:
        if each.problem is None:
            _complete(each, request)
            _measure_on_test(each, request)
    return _write_table(request, planned)


def dry_run(request: TableRequest, /) -> None:
    """Print each study of a table and an estimate of its cost.

    Raises:
        UsageError: Invalid assignments, or a study was started with other settings.
    """
    from study.lifecycle.launch import launch

    console, planned = results(), _plan(request)
    console.print(f"{request.title}, in {request.home}")
    for each in planned:
        console.print(f"\n{_described(each.config)}")
        if each.problem is not None or each.started:
            console.print(each.problem or f"started: {each.done()} of {each.config.num_trials} trials are done")
            continue
        try:
            launch(
                each.tree,
                assignments=request.assignments,
                out=request.home,
                data_root=request.data_root,
                address=request.address,
                dry_run=True,
            )
        except UsageError as error:
            console.print(f"no estimate: {error}")


def _plan(request: TableRequest) -> list[_Planned]:
    planned = []
    for tree in parts(request.table, request.scale):
        config = load_config(
            tree, assignments=request.assignments, data_root=request.data_root, address=request.address
        )
        problem = None
        try:
            check_available(config.dataset)
        except DataError as error:
            problem = str(error)
        planned.append(_Planned(tree=tree, config=config, folder=request.home / config.name, problem=problem))
    names = [each.config.name for each in planned]
    if len(set(names)) < len(names):
        raise UsageError("--set name gives all studies of the table one name: leave it out")
    for each in planned:
        each.check_settings()
    return planned


def _described(config: StudyConfig) -> str:
    from study.lifecycle.launch import trials_phrase

    training, evaluation = config.training, config.evaluation
    fixed = {key: value for key, value in config.search.fixed.items() if key != "train_epsilon"}
    return "\n".join(
        [
            f"study {config.name}: {trials_phrase(config)}",
            f"  data {config.dataset.name}, {config.dataset.train_size or 'all'} training images; "
            f"network {config.model.name}",
            f"  {training.epochs} epochs of batches of {training.batch_size}, {training.optimizer} at {training.lr:g} "
            f"({training.schedule}), augmentation {training.augment}",
            f"  {evaluation.norm} radius {evaluation.epsilon:g} in training and measurement, "
            f"attack {attack_name(evaluation.attack, evaluation.steps)}",
            f"  methods {', '.join(config.search.methods)}",
            *(f"  {key} {json.dumps(form)}" for key, form in config.search.ranges.items()),
            *(f"  {key} {json.dumps(value)}" for key, value in fixed.items()),
        ]
    )


def _complete(each: _Planned, request: TableRequest) -> None:
    if each.done() >= each.config.num_trials:
        notes().print(f"study {each.config.name}: all {each.config.num_trials} trials are done")
        return
    options = [word for assignment in request.assignments for word in ("--set", assignment)]
    options += ["--address", request.address] if request.address is not None else []
    if each.started:
        words = ["resume", str(each.folder)]
        # `resume` has no --data-root: where the data lie is part of a study's config
        options += ["--set", f"dataset.root={json.dumps(str(request.data_root))}"] if request.data_root else []
        search, stored = each.config.search, open_config(each.folder).search
        for key in _RUN_LENGTH:
            if (value := getattr(search, key)) != getattr(stored, key):
                options += ["--set", f"search.{key}={json.dumps(value)}"]
    else:
        source = request.home / f"{each.tree['name']}.yaml"
        write_yaml(source, each.tree)
        words = ["launch", str(source), "--out", str(request.home)]
        options += ["--data-root", str(request.data_root)] if request.data_root is not None else []
    code = call([*words, *options])
    if code and (code != 1 or each.done() < each.config.num_trials):
        notes().print(f"study {each.config.name} is not complete: run the same command again to resume it")
        raise SystemExit(code)


def _measure_on_test(each: _Planned, request: TableRequest) -> None:
    """Measure every completed trial on test that was not measured yet: a grid selects none, so all are shown."""
    from analysis.heldout.measurements import like_for_like

    evaluations = evaluation_rows(each.folder)
    rows = [row for row in read_rows([each.folder]).to_pylist() if row["status"] == "completed"]
    todo = [row["trial_id"] for row in rows if like_for_like(row, evaluations) is None]
    if not todo:
        return
    words = ["evaluate", str(each.folder), *(word for trial in todo for word in ("--trial", trial))]
    words += ["--address", request.address] if request.address is not None else []
    words += ["--data-root", str(request.data_root)] if request.data_root is not None else []
    code = call(words)
    if code > 1:
        notes().print(f"study {each.config.name} is not measured on test: run the same command again to measure it")
        raise SystemExit(code)


def call(words: Sequence[str], /) -> int:
    """Run a robust-study command in a separate process, with its output on stderr, and return its exit code.

    It cannot run in this process, which a driver may replace by a fresh one. It has its own session, so each signal
    reaches it only once, passed on by this process.
    """
    child = subprocess.Popen(
        [*interpreter(), *words], stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
    )

    def pass_on(number: int, frame: FrameType | None) -> None:
        if child.poll() is None:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _write_table(request: TableRequest, planned: Sequence[_Planned]) -> TableFiles:
    from analysis.tables.grid_table import UNMEASURED, grid_lines, write_grid_table

    started = [each for each in planned if each.started]
    grids = [_grid(each) for each in started]
    failed = [
        f"{each.config.name}: every trial failed"
        for each, grid in zip(started, grids, strict=True)
        if "completed" not in grid.rows["status"].to_pylist()
    ]
    unmeasured = [
        f"{each.config.name}: {count} trials are not measured on test"
        for each, grid in zip(started, grids, strict=True)
        if (count := sum(line.cells["remark"] == UNMEASURED for line in grid_lines(grid, split="test")))
    ]
    not_run = [line for each in started if each.problem is None and (line := each.not_run())]
    absent = [line for each in planned if not each.started and (line := each.unavailable())]
    halted = [line for each in started if (line := each.unavailable())]
    remarks = [
        request.remark,
        *(f"not in this table, {line}" for line in (*absent, *not_run)),
        *(f"not continued, {line}" for line in halted),
    ]
    files = write_grid_table(request.title, grids, request.home, name=request.table, notes=remarks)
    return files, [*absent, *halted, *not_run, *failed, *unmeasured]


def _grid(each: _Planned) -> Grid:
    from analysis.tables.grid_table import Grid

    rows = read_rows([each.folder])
    return Grid(rows=rows, evaluations=evaluation_rows(each.folder), counts=_counts(each.folder, rows))


def _counts(folder: Path, rows: Any) -> dict[str, int]:
    """Return how many examples were measured on each split, from one completed trial; empty without outcomes."""
    from collections import Counter

    from analysis.data.results import read_examples
    from analysis.data.schema import ResultsError

    done = [row["trial_id"] for row in rows.select(["trial_id", "status"]).to_pylist() if row["status"] == "completed"]
    try:
        outcomes = read_examples(folder, trials=done[:1])
    except ResultsError as error:
        notes().print(f"intervals assume the number of examples in the config: {error}")
        return {}
    return dict(
        Counter(
            row["split"] for row in outcomes.select(["split", "checkpoint"]).to_pylist() if row["checkpoint"] == "last"
        )
    )
