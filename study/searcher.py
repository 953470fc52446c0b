"""The searcher: Optuna proposes, Ray Tune asks; what is true stays in Optuna's storage.

Built on Ray's `OptunaSearch`, with what several objectives need: a diverged or errored trial is told
as failed, a trial stopped early is told as pruned and never with values of an unfinished network, and
a trial that a dead driver left running is proposed again under its own number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from analysis.objectives import OBJECTIVES, values
from search_spaces.space import SearchSpace
from study.config import SearchConfig
from study.errors import UsageError
from study.samplers import SharedSampler

ID_DIGITS = 5

CONFIG_ATTRIBUTE = "config"
"""Attribute of the Optuna study that holds the config it began with."""


def trial_id(number: int) -> str:
    """Return a trial's id, made from its Optuna number: the same trial wherever it runs again."""
    return f"{number:0{ID_DIGITS}d}"


def open_study(url: str, name: str, search: SearchConfig, /) -> optuna.Study:
    """Open the study's Optuna storage, creating it on first use.

    Args:
        url: SQLAlchemy URL of the storage.
        name: The study's name.
        search: The study's search settings.

    Raises:
        UsageError: The storage holds a study of this name with other objectives or directions.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [OBJECTIVES[name].direction for name in search.objectives]
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    found = [direction.name.lower() for direction in study.directions]
    if found != directions or (study.metric_names or search.objectives) != search.objectives:
        raise UsageError(
            f"{url} holds a study {name!r} of other objectives ({study.metric_names or found}); "
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


def recorded_config(url: str, name: str, /) -> dict[str, Any] | None:
    """Return the config a study began with, None when its storage holds none yet."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(study_name=name, storage=optuna.storages.RDBStorage(url))
    except KeyError:
        return None
    found: dict[str, Any] | None = study.user_attrs.get(CONFIG_ATTRIBUTE)
    return found


def proposal_of(study: optuna.Study, space: SearchSpace, number: int, /) -> dict[str, Any]:
    """Return what was proposed for a trial, as `SearchSpace.draw` returned it."""
    return space.draw(optuna.trial.FixedTrial(study.get_trials(deepcopy=False)[number].params))


def ending(objectives: list[str], row: Mapping[str, Any], /) -> tuple[TrialState, list[float] | None]:
    """Return what Optuna is told of a trial, from its result row or last report.

    Args:
        objectives: Names of the study's objectives.
        row: Its columns; `status` says how it ended, `running` that it was stopped early.

    Returns:
        Complete and the objectives' values when it ran to its end and all of them are finite, failed
        when it did not give them, pruned (without values of an unfinished network) when stopped early.
    """
    if row["status"] in ("running", "stopped_early"):
        return TrialState.PRUNED, None
    found = [float(value) for value in values(row, objectives)] if row["status"] == "completed" else [math.nan]
    return (TrialState.COMPLETE, found) if all(map(math.isfinite, found)) else (TrialState.FAIL, None)


def unfinished(study: optuna.Study, rows: Mapping[int, Mapping[str, Any]], objectives: list[str], /) -> list[int]:
    """Settle what a dead driver left open in Optuna's storage.

    Args:
        study: The study's Optuna study.
        rows: Result rows on disk by trial number.
        objectives: Names of the study's objectives.

    Returns:
        Numbers of the trials to run again, as they were proposed. Open trials whose row is on disk are told.
    """
    pending = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        if trial.number in rows:
            state, told = ending(objectives, rows[trial.number])
            study.tell(trial.number, told, state=state)
        else:
            pending.append(trial.number)
    return pending


class StudySearcher(OptunaSearch):
    """Proposes trials and tells Optuna how they ended.

    Args:
        study: The study's Optuna study, its sampler set.
        space: What is drawn.
        objectives: Names of the objectives, in the study's order.
        configure: Makes a trial's Tune config from its number, proposal and kind of proposal.
        before_tell: Called with Tune's trial id and whether the trial errored, before Optuna is told:
            the result row must be durable first.
        pending: Numbers of trials that Optuna holds unfinished; they are proposed first, as they were.
        closing: Asked before each proposal whether the study is to stop; then there is none.
    """

    def __init__(
        self,
        study: optuna.Study,
        /,
        *,
        space: SearchSpace,
        objectives: list[str],
        configure: Callable[[int, Mapping[str, Any], str], dict[str, Any]],
        before_tell: Callable[..., None],
        pending: list[int],
        closing: Callable[[], bool] = lambda: False,
    ) -> None:
        # No space for the parent, which would open a study of its own from it.
        super().__init__(space=None, metric=objectives, mode=[_mode(name) for name in objectives])
        self._study = study
        self._objectives = objectives
        self._ot_study = study  # type: ignore[assignment] # declared None there, set once a space is known
        self._space = space.draw
        self._configure = configure
        self._before_tell = before_tell
        self._pending = list(pending)
        self._closing = closing

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the config of the next trial: first those left unfinished, then new ones."""
        if self._closing():
            return Searcher.FINISHED  # type: ignore[return-value] # a name that Tune knows, typed as a config
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
        self._before_tell(trial_id, error=error)
        state, told = ending(self._objectives, {"status": "failed"} if error or result is None else result)
        self._study.tell(self._ot_trials[trial_id], told, state=state)
        self._completed_trials.add(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of worth: a resumed study is built from Optuna's storage, not from this file."""
        Path(checkpoint_path).write_bytes(b"")

    def __getstate__(self) -> dict[str, Any]:
        """Keep the storage's URL, which may hold a password, out of Tune's own files."""
        return {}


def _mode(objective: str) -> str:
    return "max" if OBJECTIVES[objective].maximise else "min"
