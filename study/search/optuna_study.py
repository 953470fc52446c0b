"""The study in Optuna's storage: opening it, its trials by number, and what it is told of each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from analysis.fronts.objectives import OBJECTIVES, parse_constraint, values
from search_spaces.space import SearchSpace
from search_spaces.start_points import paper_points
from study.config.schema import SearchConfig, StudyConfig
from study.directory.seed_plan import Plan
from study.errors import UsageError
from study.search.samplers import SharedSampler
from study.search.storage import open_storage
from study.search.time_budget import spent


def out_of_time(config: StudyConfig, study_dir: Path, /) -> bool:
    """Return whether a study is over because its time budget is: it is spent, and nothing that was begun is open."""
    if config.search.time_limit is None:
        return False
    from optuna.trial import TrialState

    study = open_search(config, study_dir)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return spent(study) >= config.search.time_limit and not running


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
        storage: The storage; see `study.search.storage`.
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
class OptunaOutcome:
    """What Optuna is told of a trial.

    Attributes:
        state: Complete, failed or pruned.
        values: The objectives' values when complete, else None.
        violations: By how much each constraint is missed, at most 0 where kept; empty unless complete.
    """

    state: TrialState
    values: list[float] | None = None
    violations: Mapping[str, float] = field(default_factory=dict)


def outcome_for_optuna(search: SearchConfig, row: Mapping[str, Any], /) -> OptunaOutcome:
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
        return OptunaOutcome(TrialState.PRUNED)
    if row["status"] != "completed":
        return OptunaOutcome(TrialState.FAIL)
    found = [float(value) for value in values(row, search.objectives)]
    violations = {text: parse_constraint(text).violation(row) for text in search.constraints}
    if not all(map(math.isfinite, [*found, *violations.values()])):
        return OptunaOutcome(TrialState.FAIL)
    return OptunaOutcome(TrialState.COMPLETE, found, violations)


def tell(study: optuna.Study, trial: optuna.Trial, end: OptunaOutcome, /) -> None:
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
                tell(study, optuna.Trial(study, frozen._trial_id), outcome_for_optuna(search, rows[frozen.number]))
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
