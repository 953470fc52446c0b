"""The searcher: Optuna proposes, Ray Tune asks; what is true stays in Optuna's storage.

Built on Ray's `OptunaSearch`, with what several objectives need: a diverged or errored trial is told
as failed, a trial stopped early is told as pruned and never with values of an unfinished network, and
a trial that a dead driver left running is proposed again under its own number.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from analysis.fronts.objectives import OBJECTIVES
from search_spaces.space import SearchSpace
from study.config.schema import SearchConfig
from study.search.optuna_study import outcome_for_optuna, tell
from study.search.samplers import SAMPLERS, SharedSampler
from study.search.time_budget import TimeBudget


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
        after_tell: Called with Tune's trial id once Optuna knows; reports the row to MLflow.
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
        after_tell: Callable[[str], None] = lambda trial_id: None,
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
        self._before_tell, self._after_tell = before_tell, after_tell
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
        """Make the end of a trial known, in an order in which a crash at any moment loses nothing.

        Optuna takes it for complete only when it ran to its end and every objective is finite; for failed when it
        errored or diverged; for pruned when it was stopped early. An unknown trial is ignored.
        """
        if trial_id not in self._ot_trials or trial_id in self._completed_trials:
            return
        # 1. The row, on disk: what is true of the trial. Without it the trial is open, and `resume` runs it.
        try:
            row = self._before_tell(trial_id, error=error)
        except StillOpenError:
            return
        self._budget.note(at_once=True)
        # 2. Optuna: what the search learns of it. A driver that died before this tells Optuna from the row.
        if trial_id not in self._told:
            tell(self._study, self._ot_trials[trial_id], outcome_for_optuna(self._search, row or {"status": "failed"}))
        self._completed_trials.add(trial_id)
        # 3. MLflow, by way of the spool: what people look at. `resume` and `sync` send again what it is missing.
        self._after_tell(trial_id)

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
