"""Trials that a study's result rows have and Optuna's storage has not: put back, or refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FixedTrial, TrialState, create_trial

from search_spaces.space import SearchSpace
from search_spaces.start_points import paper_points
from study.config.schema import StudyConfig
from study.config.search_section import SearchConfig
from study.directory.seed_plan import Plan
from study.errors import UsageError
from study.search.optuna_study import outcome_for_optuna, trial_id
from study.search.samplers import SAMPLERS, SharedSampler
from study.search.trial_specs import params_of


def restore(
    study: optuna.Study, config: StudyConfig, rows: Sequence[Mapping[str, Any]], /, *, plan: Plan | None, remedy: str
) -> list[str]:
    """Make Optuna's storage agree with what a study's folder holds, as far as Optuna allows.

    A missing trial is added under its number, as running; `optuna_study.unfinished` then reports its row, or has it
    continued. Unknown numbers before it get new proposals.

    Args:
        study: The study's Optuna study.
        config: The study's config.
        rows: Result rows, and for trials without one the columns that repeat their settings.
        plan: The seed plan of a confirmation.
        remedy: What to do where the storage contradicts the rows.

    Returns:
        Lines for the user.

    Raises:
        UsageError: Rows are of another study, hold too little to put a trial back, or contradict the storage.
            Nothing has been changed then.
    """
    rows = sorted(rows, key=lambda row: int(row["number"]))
    if others := sorted({row["study"] for row in rows} - {config.name}):
        raise UsageError(f"the rows are of study {others[0]}, and `name` is {config.name} in the config: restore it")
    stored, space = study.get_trials(deepcopy=False), config.space()
    missing: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
    problems = []
    for row in rows:
        number, name = int(row["number"]), row["trial_id"]
        known = stored[number].params if number < len(stored) else {}
        params = params_of(space, row) if plan is None else plan.replicas[number].params
        problems += [
            f"trial {name}: `{key}` is {known[key]!r} in Optuna's storage and {value!r} in its row"
            for key, value in params.items()
            if key in known and known[key] != value
        ]
        try:
            needed = _drawn(space, {**known, **params})
        except ValueError as error:
            problems.append(f"trial {name} is not in Optuna's storage, and its row is not enough: {error}")
            continue
        if number >= len(stored) or (needed.keys() - known.keys() and not stored[number].state.is_finished()):
            missing[number] = row, needed
    if problems:
        raise UsageError(*problems, remedy)
    _add(study, config, missing, plan=plan)
    return [*_added_line(list(missing)), *_unchangeable(study, config.search, rows)]


def _drawn(space: SearchSpace, params: dict[str, Any]) -> dict[str, Any]:
    """Return those of the parameters that a trial with them has; raise a ValueError if one is missing."""
    trial = FixedTrial(params)
    space.draw(trial)
    return {name: params[name] for name in trial.distributions}


def _add(
    study: optuna.Study,
    config: StudyConfig,
    missing: Mapping[int, tuple[Mapping[str, Any], dict[str, Any]]],
    *,
    plan: Plan | None,
) -> None:
    space, flat = config.space(), SAMPLERS[config.search.sampler].flat
    points = [] if config.search.start_from is None else paper_points(space, epsilon=config.evaluation.epsilon)[0]
    stored, storage = study.get_trials(deepcopy=False), study._storage
    length, sampler = len(stored), study.sampler
    study.sampler = optuna.samplers.RandomSampler(config.search.seed)  # draws only what a flat sampler discards
    for number, (row, params) in missing.items():
        for gap in range(length, number):
            replica = None if plan is None else plan.replicas[gap]
            attributes = None if replica is None else {"proposal": replica.proposal}
            study.enqueue_trial({} if replica is None else replica.params, user_attrs=attributes)
        if number < len(stored):
            key = stored[number]._trial_id
            storage.set_trial_system_attr(key, "fixed_params", params)
            storage.set_trial_state_values(key, TrialState.RUNNING)
        else:
            template = create_trial(state=TrialState.RUNNING, system_attrs={"fixed_params": params})
            key = storage.create_new_trial(study._study_id, template_trial=template)
        length = max(length, number + 1)
        trial = optuna.Trial(study, key)
        space.draw(trial, flat=flat)
        point = next((point for point in points if point.items() <= params.items()), None)
        kind = row.get("proposal") or _kind(sampler, number, point)
        trial.set_user_attr("proposal", kind)
        if kind == "start_point" and point is not None:  # so that it is not queued again
            storage.set_trial_system_attr(key, "fixed_params", point)
    study.sampler = sampler


def _kind(sampler: optuna.samplers.BaseSampler, number: int, point: Mapping[str, Any] | None) -> str:
    if point is not None:
        return "start_point"
    return sampler.proposal(number) if isinstance(sampler, SharedSampler) else "sampler"


def _added_line(numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    some = ", ".join(map(trial_id, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return [f"Optuna's storage had no trial {some}: put back from the study's folder"]


def _unchangeable(study: optuna.Study, search: SearchConfig, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for trials that an earlier version marked as failed before they had a row, which is completed."""
    stored = study.get_trials(deepcopy=False)
    failed = [
        str(row["trial_id"])
        for row in rows
        if stored[int(row["number"])].state == TrialState.FAIL
        and row.get("status") is not None
        and outcome_for_optuna(search, row).state == TrialState.COMPLETE
    ]
    if not failed:
        return []
    return [f"Optuna keeps trial {', '.join(failed)} as failed, where the study counts its completed row"]
