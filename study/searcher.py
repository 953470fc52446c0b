"""The searcher: Optuna proposes, Ray Tune asks; what is true stays in Optuna's storage.

Built on Ray's `OptunaSearch`, with what several objectives need: a diverged or errored trial is told
as failed, a trial stopped early is told as pruned and never with values of an unfinished network, and
a trial that a dead driver left running is proposed again under its own number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from analysis.objectives import OBJECTIVES, parse_constraint, values
from search_spaces.space import SearchSpace
from study.config import SearchConfig
from study.errors import UsageError
from study.samplers import SharedSampler

ID_DIGITS = 5


def trial_id(number: int) -> str:
    """Return a trial's id, made from its Optuna number: the same trial wherever it runs again."""
    return f"{number:0{ID_DIGITS}d}"


def open_study(storage: str | optuna.storages.BaseStorage, name: str, search: SearchConfig, /) -> optuna.Study:
    """Open the study's Optuna storage, creating it on first use.

    Args:
        storage: The storage, or its SQLAlchemy URL.
        name: The study's name.
        search: The study's search settings.

    Raises:
        UsageError: The storage holds a study of this name with other objectives or directions.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [OBJECTIVES[name].direction for name in search.objectives]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    found = [direction.name.lower() for direction in study.directions]
    if found != directions or (study.metric_names or search.objectives) != search.objectives:
        where = storage if isinstance(storage, str) else "the storage"
        raise UsageError(
            f"{where} holds a study {name!r} of other objectives ({study.metric_names or found}); "
            f"required: {search.objectives}. Choose a new study name"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(search.objectives)
    study.sampler = SharedSampler(
        search.sampler, seed=search.seed, random_fraction=search.random_fraction, told=len(study.trials)
    )
    return study


def study_url(study_dir: Path, /) -> str:
    """Return the SQLAlchemy URL of a study's own storage, a SQLite file in its folder."""
    return f"sqlite:///{(study_dir / 'optuna.db').resolve()}"


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


def tell(study: optuna.Study, number: int, end: Ending, /) -> None:
    """Tell Optuna how a trial ended: the constraints first, since a finished trial takes none.

    A driver that died between the two has set them already; they are the same values.
    """
    frozen = study.get_trials(deepcopy=False)[number]
    trial = optuna.trial.Trial(study, frozen._trial_id)
    for name, violation in end.violations.items():
        if name not in trial.constraints:
            trial.set_constraint(name, violation)
    study.tell(number, end.values, state=end.state)


def unfinished(study: optuna.Study, rows: Mapping[int, Mapping[str, Any]], search: SearchConfig, /) -> list[int]:
    """Settle what a dead driver left open in Optuna's storage.

    Args:
        study: The study's Optuna study.
        rows: Result rows on disk by trial number.
        search: The study's search settings.

    Returns:
        Numbers of the trials to run again, as they were proposed. Open trials whose row is on disk are told.
    """
    pending = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        if trial.number in rows:
            tell(study, trial.number, ending(search, rows[trial.number]))
        else:
            pending.append(trial.number)
    return pending


class StudySearcher(OptunaSearch):
    """Proposes trials and tells Optuna how they ended.

    Args:
        study: The study's Optuna study, its sampler set.
        space: What is drawn.
        search: The study's search settings.
        configure: Makes a trial's Tune config from its number, proposal and kind of proposal.
        before_tell: Called with Tune's trial id and whether the trial errored; makes its result row durable and
            returns it, None when it has none. Optuna is told what that row says.
        pending: Numbers of trials that Optuna holds unfinished; they are proposed first, as they were.
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
        pending: list[int],
    ) -> None:
        # No space for the parent, which would open a study of its own from it.
        super().__init__(space=None, metric=search.objectives, mode=[_mode(name) for name in search.objectives])
        self._study = study
        self._search = search
        self._ot_study = study  # type: ignore[assignment] # declared None there, set once a space is known
        self._space = space.draw
        self._configure = configure
        self._before_tell = before_tell
        self._pending = list(pending)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the config of the next trial: first those left unfinished, then new ones."""
        if trial_id not in self._ot_trials and self._pending:
            frozen = self._study.get_trials(deepcopy=False)[self._pending.pop(0)]
            self._ot_trials[trial_id] = optuna.trial.Trial(self._study, frozen._trial_id)
        proposal = super().suggest(trial_id)
        if proposal is None:
            return None
        trial = self._ot_trials[trial_id]
        sampler = self._study.sampler
        kind = sampler.proposal(trial.number) if isinstance(sampler, SharedSampler) else "sampler"
        trial.set_user_attr("proposal", kind)
        # captured Optuna names such as `trades.beta` stand beside the proposal's own `beta`
        drawn = {name: value for name, value in proposal.items() if "." not in name}
        return self._configure(trial.number, drawn, kind)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore intermediate results: Optuna takes none when there are several objectives."""

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
        row = self._before_tell(trial_id, error=error)
        tell(self._study, self._ot_trials[trial_id].number, ending(self._search, row or {"status": "failed"}))
        self._completed_trials.add(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of worth: a resumed study is built from Optuna's storage, not from this file."""
        Path(checkpoint_path).write_bytes(b"")

    def __getstate__(self) -> dict[str, Any]:
        """Keep the storage's URL, which may hold a password, out of Tune's own files."""
        return {}


def _mode(objective: str) -> str:
    return "max" if OBJECTIVES[objective].maximise else "min"
