"""The specs of a study's trials: from their proposals in Optuna's storage, or from their result rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from analysis.heldout.members import CONFIRM_FOLDER
from search_spaces.dimensions import Dimension
from search_spaces.space import SearchSpace
from study.config.schema import StudyConfig
from study.directory.seed_plan import read_plan
from study.errors import UsageError, usage_errors
from study.search.optuna_study import open_search, proposal_of, trial_id
from trainables.checkpoints.files import folders, join
from trainables.settings import settings_of, with_former_values
from trainables.spec import CraftMode, TrainingSpec, TrialSpec

_COLUMNS = {"train_epsilon", "craft_mode"}
"""Settings with a column of their own name."""

_TRAINING = set(settings_of(TrainingSpec))


def params_of(space: SearchSpace, row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return a trial's parameters by their name in Optuna, as far as its result row holds them.

    A row has no column for some settings that only a study's own `search.ranges` searches, such as `schedule`, nor for
    the craft mode of a method without attacks.
    """
    params: dict[str, Any] = {"method": row["method"]} if len(space.methods) > 1 else {}
    options = json.loads(row["options"] or "{}")
    for dimension in space.dimensions:
        if dimension.applies_to(row["method"]):
            params |= _param(dimension, row, options)
    return params


def _param(dimension: Dimension, row: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    name = dimension.name
    recorded = row.get(f"param.{name}")
    if recorded is None:
        recorded = row[name] if name in _COLUMNS else options.get(name)
    if recorded is None and name in _TRAINING - _COLUMNS and f"param.{name}" not in row:
        return {}  # that there is no column says nothing of the value
    if dimension.values is not None:
        fitting = [value for value in dimension.values if _as_recorded(name, value) == recorded]
        return {dimension.key: fitting[0]} if fitting else {}
    if recorded is None:
        return {}
    return {dimension.key: round(recorded) if dimension.is_integer else float(recorded)}


def _as_recorded(name: str, value: Any) -> Any:
    if name == "awp":
        return value or None
    return str(CraftMode.of(value)) if name == "craft_mode" else json.loads(json.dumps(value, default=str))


def spec_of(config: StudyConfig, study_dir: Path, row: Mapping[str, Any], /) -> TrialSpec:
    """Return the spec that a trial's result row was measured with.

    Args:
        config: The study's config.
        study_dir: Its folder. What the row has no column for is looked up in Optuna's storage.
        row: The trial's result row.

    Raises:
        UsageError: The storage is needed, and cannot be used or has no such trial.
    """
    plan = read_plan(study_dir)
    if plan is not None:
        return TrialSpec.from_dict(plan.trial(row["number"])["spec"])
    space, number = config.space(), int(row["number"])
    params = params_of(space, row)
    try:
        proposal = space.draw(optuna.trial.FixedTrial(params))
    except ValueError:  # a parameter has no column
        stored = open_search(config, study_dir).get_trials(deepcopy=False)[number : number + 1]
        params = {key: value for trial in stored for key, value in trial.params.items()} | params
        with usage_errors(ValueError):
            proposal = space.draw(optuna.trial.FixedTrial(params))
    return replace(config.trial_spec(proposal, number=number), seed=row["seed"])


def specs_of(config: StudyConfig, study_dir: Path, study: optuna.Study, /) -> dict[str, dict[str, Any]]:
    """Return the specs of the trials that a study has started, and of its new seeds, by id."""
    space = config.space()
    specs = {
        trial_id(frozen.number): config.trial_spec(proposal_of(study, space, frozen.number), number=frozen.number)
        for frozen in study.get_trials(deepcopy=False)
        if "proposal" in frozen.user_attrs and frozen.state != TrialState.WAITING
    }
    plan = read_plan(study_dir / CONFIRM_FOLDER)
    replicas = {} if plan is None else {replica.trial_id: replica.spec for replica in plan.replicas}
    return {name: json.loads(spec.to_json()) for name, spec in specs.items()} | replicas


def unrecorded_trials(
    config: StudyConfig, study_dir: Path, root: Path | str, /, *, recorded: Collection[int]
) -> list[dict[str, Any]]:
    """Return the columns that repeat the settings of trials of which only checkpoints are left, one row a trial.

    Args:
        config: The study's config.
        study_dir: Its folder.
        root: Its own folder of checkpoints.
        recorded: Numbers of the trials that have a row or are in Optuna's storage.
    """
    from trainables.checkpoints.format import CheckpointError, check_spec, read_spec
    from trainables.methods.base import build_method
    from trainables.training.loop import LAST, PARTIAL
    from trainables.training.outcome import spec_columns

    rows = []
    for name in folders(root):
        if not name.isdecimal() or int(name) in recorded:
            continue
        stored = read_spec(join(root, name, LAST)) or read_spec(join(root, name, PARTIAL))
        if stored is None:
            continue
        tree = with_former_values(stored, TrialSpec)
        spec = TrialSpec.from_dict(tree)
        row = {"study": config.name, "trial_id": name, "number": int(name)}
        row |= spec_columns(spec, build_method(spec.method, spec.params))
        try:
            check_spec(name, tree, json.loads(spec_of(config, study_dir, row).to_json()))
        except (CheckpointError, UsageError):
            continue
        rows.append(row)
    return rows
