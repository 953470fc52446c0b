"""The searcher: Optuna proposes, Ray Tune asks; what is true stays in Optuna's storage.

Built on Ray's `OptunaSearch`, with what several objectives need: a diverged or errored trial is told
as failed, a trial stopped early is told as pruned and never with values of an unfinished network, and
a trial that a dead driver left running is proposed again under its own number.
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from analysis.fronts.objectives import OBJECTIVES, parse_constraint, values
from search_spaces.space import SearchSpace
from search_spaces.start_points import paper_points
from study.budget import TimeBudget
from study.config import SearchConfig, StudyConfig
from study.errors import UsageError
from study.replicas import Plan
from study.samplers import SAMPLERS, SharedSampler
from study.storage import open_storage

ID_DIGITS = 5

CONFIG_ATTRIBUTE = "config"
"""Attribute of the Optuna study that holds the config it began with."""


def trial_id(number: int) -> str:
    """Return a trial's id, made from its Optuna number: the same trial wherever it runs again."""
    return f"{number:0{ID_DIGITS}d}"


def open_study(
    storage: optuna.storages.BaseStorage, name: str, search: SearchConfig, /, *, grid: Sequence[Mapping[str, Any]] = ()
) -> optuna.Study:
    """Open a study in its Optuna storage, creating it on first use, with its sampler set.

    Args:
        storage: The storage; see `study.storage`.
        name: The study's name.
        search: The study's search settings.
        grid: The points of its grid, for that sampler.

    Raises:
        UsageError: The storage holds a study of this name with other objectives or directions.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [OBJECTIVES[name].direction for name in search.objectives]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    found = [direction.name.lower() for direction in study.directions]
    if found != directions or (study.metric_names or search.objectives) != search.objectives:
        raise UsageError(
            f"the storage holds a study {name!r} of other objectives ({study.metric_names or found}); "
            f"required: {search.objectives}. Choose a new study name"
        )
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(search.objectives)
    study.sampler = SharedSampler(search, told=len(study.get_trials(deepcopy=False)), grid=grid)
    return study


def open_search(config: StudyConfig, study_dir: Path, /) -> optuna.Study:
    """Open a study's search where its config keeps it; see `open_study`.

    Raises:
        UsageError: The storage cannot be used, or holds another study.
    """
    grid = config.space().grid() if config.search.sampler == "grid" else ()
    return open_study(open_storage(config, study_dir), config.name, config.search, grid=grid)


def enqueue(study: optuna.Study, config: StudyConfig, /, *, plan: Plan | None = None) -> list[str]:
    """Queue the start points that the config asks for, or a plan's trials, each once, however often this is called.

    A trial of a start point is marked so, and what the point does not hold is drawn. A plan's have their numbers.

    Returns:
        One line for each point that is left out, saying why.
    """
    if plan is not None:
        for replica in plan.replicas[len(study.get_trials(deepcopy=False)) :]:
            study.enqueue_trial(replica.params, user_attrs={"proposal": replica.proposal})
        return []
    if config.search.start_from is None:
        return []
    points, left_out = paper_points(config.space(), epsilon=config.evaluation.epsilon)
    for point in points[: config.num_trials]:
        study.enqueue_trial(point, user_attrs={"proposal": "start_point"}, skip_if_exists=True)
    return left_out


def recorded_config(config: StudyConfig, study_dir: Path, /) -> dict[str, Any] | None:
    """Return the config a study began with, None when its storage holds none yet."""
    found: dict[str, Any] | None = open_search(config, study_dir).user_attrs.get(CONFIG_ATTRIBUTE)
    return found


def proposal_of(study: optuna.Study, space: SearchSpace, number: int, /) -> dict[str, Any]:
    """Return what was proposed for a trial, as `SearchSpace.draw` returned it."""
    return space.draw(optuna.trial.FixedTrial(study.get_trials(deepcopy=False)[number].params))


@dataclass(frozen=True)
class Ending:
    """What Optuna is told of a trial.

    Attributes:
        state: Complete, failed or pruned.
        values: The objectives' values when complete, else None.
        violations: By how much each constraint is missed, at most 0 where kept; empty unless complete.
    """

    state: TrialState
    values: list[float] | None = None
    violations: Mapping[str, float] = field(default_factory=dict)


def ending(search: SearchConfig, row: Mapping[str, Any], /) -> Ending:
    """Return what Optuna is told of a trial, from its result row or last report.

    Args:
        search: The study's search settings.
        row: Its columns; `status` says how it ended, `running` that it was stopped early.

    Returns:
        Complete, with the objectives' values and the constraints' violations, when it ran to its end and all of
        them are finite; failed when it did not give them; pruned (without values of an unfinished network) when
        stopped early.
    """
    if row["status"] in ("running", "stopped_early"):
        return Ending(TrialState.PRUNED)
    if row["status"] != "completed":
        return Ending(TrialState.FAIL)
    found = [float(value) for value in values(row, search.objectives)]
    violations = {text: parse_constraint(text).violation(row) for text in search.constraints}
    if not all(map(math.isfinite, [*found, *violations.values()])):
        return Ending(TrialState.FAIL)
    return Ending(TrialState.COMPLETE, found, violations)


def tell(study: optuna.Study, trial: optuna.Trial, end: Ending, /) -> None:
    """Tell Optuna how a trial ended: the constraints first, since a finished trial takes none.

    A driver that died between the two has set them already; they are the same values.
    """
    for name, violation in end.violations.items():
        if name not in trial.constraints:
            trial.set_constraint(name, violation)
    study.tell(trial, end.values, state=end.state)


def unfinished(study: optuna.Study, rows: Mapping[int, Mapping[str, Any]], search: SearchConfig, /) -> list[int]:
    """Settle what a dead driver left open in Optuna's storage.

    Args:
        study: The study's Optuna study.
        rows: Result rows on disk by trial number.
        search: The study's search settings.

    Returns:
        Numbers of the trials to run again, as they were proposed: the open ones, and ended ones, failed ones too,
        whose row was lost. Open trials whose row is on disk are told.
    """
    pending = []
    # a waiting one is a start point that nobody has asked for yet, and comes when its turn does
    for frozen in study.get_trials(deepcopy=False):
        running = frozen.state == TrialState.RUNNING
        if frozen.number in rows:
            if running:
                tell(study, optuna.Trial(study, frozen._trial_id), ending(search, rows[frozen.number]))
        elif running or (frozen.state.is_finished() and "proposal" in frozen.user_attrs):
            # without that attribute it was never drawn to its end, and an ended trial cannot be drawn
            pending.append(frozen.number)
    return pending


def give_up(study: optuna.Study, numbers: Sequence[int], /) -> None:
    """Tell Optuna that trials failed which it holds open and which the study, made smaller, has no place for."""
    for number in numbers:
        frozen = study.get_trials(deepcopy=False)[number]
        if frozen.state == TrialState.RUNNING:
            study.tell(optuna.Trial(study, frozen._trial_id), state=TrialState.FAIL)


class StillOpenError(Exception):
    """A trial that ended without a row it ought to have: it is to be run again, so Optuna is told nothing."""


class StudySearcher(OptunaSearch):
    """Proposes trials and tells Optuna how they ended.

    Args:
        study: The study's Optuna study, its sampler set.
        space: What is drawn.
        search: The study's search settings.
        configure: Makes a trial's Tune config from its number, proposal and kind of proposal; `replicate_of` is
            added to it unless it is there.
        before_tell: Called with Tune's trial id and whether the trial errored; makes its result row durable and
            returns it, None when it has none. Optuna is told what that row says.
        pending: Numbers of trials that Optuna holds unfinished; they are proposed first, as they were.
        closing: Asked before each proposal whether the study is to stop; then there is none.
        budget: Ends the search when it is over: no new trial starts, and what was begun is finished.
    """

    def __init__(
        self,
        study: optuna.Study,
        /,
        *,
        space: SearchSpace,
        search: SearchConfig,
        configure: Callable[[int, Mapping[str, Any], str], dict[str, Any]],
        before_tell: Callable[..., Mapping[str, Any] | None],
        pending: Sequence[int],
        budget: TimeBudget | None = None,
        closing: Callable[[], bool] = lambda: False,
    ) -> None:
        # No space for the parent, which would open a study of its own from it.
        super().__init__(space=None, metric=search.objectives, mode=[_mode(name) for name in search.objectives])
        self._study = study
        self._search = search
        self._ot_study = study  # type: ignore[assignment] # declared None there, set once a space is known
        # Tune would make a space of its own where it sees none
        self._space = space.draw
        self._draw = functools.partial(space.draw, flat=SAMPLERS[search.sampler].flat)
        self._configure = configure
        self._before_tell = before_tell
        self._pending = list(pending)
        self._budget = budget or TimeBudget(study, limit=None)
        self._closing = closing
        self._told: set[str] = set()
        self._first = _first_of_each(study, space)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override] # Ray declares less than it takes
        """Return the config of the next trial: first those left unfinished, then new ones; `FINISHED` for no more."""
        trial = self._next(trial_id)
        if trial is None:
            return str(Searcher.FINISHED)
        proposal = self._draw(trial)
        self._budget.note(at_once=True)
        sampler = self._study.sampler
        kind = trial.user_attrs.get("proposal") or (
            sampler.proposal(trial.number) if isinstance(sampler, SharedSampler) else "sampler"
        )
        if "proposal" not in trial.user_attrs and trial_id not in self._told:
            trial.set_user_attr("proposal", kind)
        config = self._configure(trial.number, proposal, kind)
        before = trial.user_attrs.get("attempts", 0)
        return {"replicate_of": self._replicated(trial.number, proposal), "attempts": before} | config

    def _next(self, trial_id: str) -> optuna.Trial | None:
        if self._closing():
            return None
        if trial_id not in self._ot_trials:
            if self._pending:
                self._ot_trials[trial_id] = self._again(trial_id, self._pending.pop(0))
            elif self._budget.is_over:
                return None
            else:
                self._ot_trials[trial_id] = self._study.ask()
        trial: optuna.Trial = self._ot_trials[trial_id]
        return trial

    def _again(self, trial_id: str, number: int) -> optuna.Trial:
        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = optuna.Trial(self._study, frozen._trial_id)
        if frozen.state.is_finished():
            self._told.add(trial_id)
        else:  # attempts of drivers before this one
            trial.set_user_attr("attempts", frozen.user_attrs.get("attempts", 0) + 1)
        return trial

    def _replicated(self, number: int, proposal: Mapping[str, Any]) -> int | None:
        key = _key(proposal)
        first = self._first[key] = min(number, self._first.get(key, number))
        return first if first < number else None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note that time passes; Optuna takes no intermediate results when there are several objectives."""
        self._budget.note(at_once=False)

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Tell Optuna how a trial ended.

        Complete with values only when it ran to its end and every objective is finite; failed when it
        errored or diverged; pruned when it was stopped early. An unknown trial is ignored.
        """
        if trial_id not in self._ot_trials or trial_id in self._completed_trials:
            return
        try:
            row = self._before_tell(trial_id, error=error)
        except StillOpenError:
            return
        self._budget.note(at_once=True)
        if trial_id not in self._told:
            tell(self._study, self._ot_trials[trial_id], ending(self._search, row or {"status": "failed"}))
        self._completed_trials.add(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of worth: a resumed study is built from Optuna's storage, not from this file."""
        Path(checkpoint_path).write_bytes(b"")

    def __getstate__(self) -> dict[str, Any]:
        """Keep the storage's URL, which may hold a password, out of Tune's own files."""
        return {}


def _first_of_each(study: optuna.Study, space: SearchSpace) -> dict[str, int]:
    """Return, for each distinct proposal of the study so far, the number of the first trial that has it.

    A trial that runs may not be drawn to its end; it is proposed again, and counted then.
    """
    first: dict[str, int] = {}
    for frozen in study.get_trials(deepcopy=False):
        if frozen.state.is_finished():
            first.setdefault(_key(space.draw(optuna.trial.FixedTrial(frozen.params))), frozen.number)
    return first


def _key(proposal: Mapping[str, Any]) -> str:
    return json.dumps(proposal, sort_keys=True, default=str)


def _mode(objective: str) -> str:
    return "max" if OBJECTIVES[objective].maximise else "min"
