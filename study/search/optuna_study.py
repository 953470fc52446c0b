"""The study in Optuna's storage: opens it, looks up trials by number, and reports how they ended."""

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
from study.config.schema import StudyConfig
from study.config.search_section import SearchConfig
from study.directory.seed_plan import Plan
from study.errors import UsageError
from study.search.samplers import SharedSampler
from study.search.storage import open_storage
from study.search.time_budget import spent


def out_of_time(config: StudyConfig, study_dir: Path, /) -> bool:
    """Return whether a study has ended by its time budget: the budget is used up and no started trial is open."""
    if config.search.time_limit is None:
        return False
    study = open_search(config, study_dir)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return spent(study) >= config.search.time_limit and not running


ID_DIGITS = 5

CONFIG_ATTRIBUTE = "config"
"""Attribute of the Optuna study that holds the config it was launched with."""

SPLIT_ATTRIBUTE = "split_hash"
"""Attribute of the Optuna study that holds the digest of the data set that its first trial was run on."""


def trial_id(number: int) -> str:
    """Return a trial's id, which depends on its Optuna number only and stays the same when the trial runs again."""
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
    stored = [direction.name.lower() for direction in study.directions]
    if stored != directions or (study.metric_names or search.objectives) != search.objectives:
        raise UsageError(
            f"the Optuna storage already has a study {name!r} with other objectives ({study.metric_names or stored}); "
            f"required: {search.objectives}. Choose another study name"
        )
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(search.objectives)
    study.sampler = SharedSampler(search, num_stored=len(study.get_trials(deepcopy=False)), grid=grid)
    return study


def open_search(config: StudyConfig, study_dir: Path, /) -> optuna.Study:
    """Open a study's search in the storage that its config names; see `open_study`.

    Raises:
        UsageError: The storage cannot be used, or holds another study.
    """
    grid = config.space().grid() if config.search.sampler == "grid" else ()
    return open_study(open_storage(config, study_dir), config.name, config.search, grid=grid)


def enqueue(study: optuna.Study, config: StudyConfig, /, *, plan: Plan | None = None) -> list[str]:
    """Queue the config's start points, or a seed plan's trials, each only once over repeated calls.

    A start point's trial is marked as such, and parameters that the point does not set are drawn. A plan's trials
    keep their numbers.

    Returns:
        A line with the reason for each point that is left out.
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
    """Return the config that a study was launched with, None when its storage has no such study or config yet."""
    storage = open_storage(config, study_dir)
    if config.name not in optuna.get_all_study_names(storage):
        return None
    recorded: dict[str, Any] | None = open_search(config, study_dir).user_attrs.get(CONFIG_ATTRIBUTE)
    return recorded


def proposal_of(study: optuna.Study, space: SearchSpace, number: int, /) -> dict[str, Any]:
    """Return a trial's proposal as `SearchSpace.draw` returned it."""
    return space.draw(optuna.trial.FixedTrial(study.get_trials(deepcopy=False)[number].params))


@dataclass(frozen=True)
class OptunaOutcome:
    """How a trial ended, as reported to Optuna.

    Attributes:
        state: Complete, failed or pruned.
        values: The objectives' values when complete, else None.
        violations: Each constraint's violation, at most 0 where it is satisfied; empty unless complete.
    """

    state: TrialState
    values: list[float] | None = None
    violations: Mapping[str, float] = field(default_factory=dict)


def outcome_for_optuna(search: SearchConfig, row: Mapping[str, Any], /) -> OptunaOutcome:
    """Return what to report to Optuna of a trial, from its result row or last report.

    Args:
        search: The study's search settings.
        row: Its columns. `status` is how it ended; `running` means that it was stopped early.

    Returns:
        Complete, with the objectives' values and the constraints' violations, when it ran to its end and all of
        them are finite; failed when any is missing; pruned, without the values of a partly trained network, when it
        was stopped early.
    """
    if row["status"] in ("running", "stopped_early"):
        return OptunaOutcome(TrialState.PRUNED)
    if row["status"] != "completed":
        return OptunaOutcome(TrialState.FAIL)
    objectives = [float(value) for value in values(row, search.objectives)]
    violations = {text: float(parse_constraint(text).violation(row)) for text in search.constraints}
    if not all(map(math.isfinite, [*objectives, *violations.values()])):
        return OptunaOutcome(TrialState.FAIL)
    return OptunaOutcome(TrialState.COMPLETE, objectives, violations)


def tell(study: optuna.Study, trial: optuna.Trial, outcome: OptunaOutcome, /) -> None:
    """Tell Optuna how a trial ended, the constraints first, since they cannot be set on a finished trial.

    If a driver died between the two steps, the constraints are set already, to the same values.
    """
    for name, violation in outcome.violations.items():
        if name not in trial.constraints:
            trial.set_constraint(name, violation)
    study.tell(trial, outcome.values, state=outcome.state)


def unfinished(study: optuna.Study, rows: Mapping[int, Mapping[str, Any]], search: SearchConfig, /) -> list[int]:
    """Return the trials that a dead driver left open, after telling Optuna of those whose rows are on disk.

    Args:
        study: The study's Optuna study.
        rows: Result rows on disk by trial number.
        search: The study's search settings.

    Returns:
        Numbers of the trials to run again as they were proposed: open ones, and ended ones, failed ones included, whose
        row was lost.
    """
    pending = []
    # a waiting trial is a start point that is still in Optuna's queue, from which it will be proposed
    for frozen in study.get_trials(deepcopy=False):
        running = frozen.state == TrialState.RUNNING
        if frozen.number in rows:
            if running:
                tell(study, optuna.Trial(study, frozen._trial_id), outcome_for_optuna(search, rows[frozen.number]))
        elif running or (frozen.state.is_finished() and "proposal" in frozen.user_attrs):
            # without that attribute its parameters are incomplete, and an ended trial cannot be given more
            pending.append(frozen.number)
    return pending


def fail_surplus(study: optuna.Study, numbers: Sequence[int], /) -> None:
    """Tell Optuna that open trials failed: those beyond `num_trials`, where that was lowered."""
    for number in numbers:
        frozen = study.get_trials(deepcopy=False)[number]
        if frozen.state == TrialState.RUNNING:
            study.tell(optuna.Trial(study, frozen._trial_id), state=TrialState.FAIL)
