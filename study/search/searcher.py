"""The searcher through which Ray Tune gets trials from Optuna; its state is Optuna's storage.

It extends Ray's `OptunaSearch` to several objectives: a diverged or errored trial is reported as failed; a trial
stopped early is reported as pruned, without the values of a partly trained network; a trial that a dead driver left
running is proposed again under its own number.
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
from study.config.search_section import SearchConfig
from study.search.optuna_study import outcome_for_optuna, tell
from study.search.samplers import SAMPLERS, SharedSampler
from study.search.time_budget import TimeBudget


class StillOpenError(Exception):
    """A trial ended without its result row: it stays open in Optuna, to be run again."""


class StudySearcher(OptunaSearch):
    """Proposes trials and tells Optuna how they ended.

    Args:
        study: The study's Optuna study, its sampler set.
        space: The search space.
        search: The study's search settings.
        configure: Makes a trial's Tune config from its number, proposal and kind of proposal; `replicate_of` and
            `attempts` are added to a config without them.
        before_tell: Called with Tune's trial id and whether the trial errored, before Optuna is told; makes the
            trial's result row durable and returns it.
        after_tell: Called with Tune's trial id after Optuna is told; reports the row to MLflow.
        pending: Numbers of trials to run again; they are proposed first, with their parameters.
        stop_requested: Returns whether the study is to stop; no trial is proposed from then on.
        budget: The time budget; once it is used up, no new trial is proposed and pending ones still are.

    Attributes:
        left_open: Whether a trial ended without its row, and is to be run again.
    """

    def __init__(
        self,
        study: optuna.Study,
        /,
        *,
        space: SearchSpace,
        search: SearchConfig,
        configure: Callable[[int, Mapping[str, Any], str], dict[str, Any]],
        before_tell: Callable[..., Mapping[str, Any]],
        after_tell: Callable[[str], None] = lambda trial_id: None,
        pending: Sequence[int],
        budget: TimeBudget | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        # without a space, from which the parent would create a study of its own
        modes = ["max" if OBJECTIVES[name].maximise else "min" for name in search.objectives]
        super().__init__(space=None, metric=search.objectives, mode=modes)
        self._study = study
        self._search = search
        self._ot_study = study  # type: ignore[assignment] # declared None there, set once a space is known
        # with None here Tune would set a space of its own
        self._space = space.draw
        self._draw = functools.partial(space.draw, flat=SAMPLERS[search.sampler].flat)
        self._configure = configure
        self._before_tell, self._after_tell = before_tell, after_tell
        self._pending = list(pending)
        self._budget = budget or TimeBudget(study, limit=None)
        self._stop_requested = stop_requested
        self._told: set[str] = set()
        self.left_open = False
        self._first = _first_of_each(study, space)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override] # Ray declares less than it takes
        """Return the config of the next trial, first of the pending ones, then of new ones; `FINISHED` for no more."""
        trial = self._next(trial_id)
        if trial is None:
            return str(Searcher.FINISHED)
        proposal = self._draw(trial)
        self._budget.update(save=True)
        sampler = self._study.sampler
        kind = trial.user_attrs.get("proposal") or (
            sampler.proposal(trial.number) if isinstance(sampler, SharedSampler) else "sampler"
        )
        if "proposal" not in trial.user_attrs and trial_id not in self._told:
            trial.set_user_attr("proposal", kind)
        config = self._configure(trial.number, proposal, kind)
        attempts = trial.user_attrs.get("attempts", 0)
        return {"replicate_of": self._replicate_of(trial.number, proposal), "attempts": attempts} | config

    def _next(self, trial_id: str) -> optuna.Trial | None:
        if self._stop_requested():
            return None
        if trial_id not in self._ot_trials:
            if self._pending:
                self._ot_trials[trial_id] = self._reopened(trial_id, self._pending.pop(0))
            elif self._budget.is_over:
                return None
            else:
                self._ot_trials[trial_id] = self._study.ask()
        trial: optuna.Trial = self._ot_trials[trial_id]
        return trial

    def _reopened(self, trial_id: str, number: int) -> optuna.Trial:
        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = optuna.Trial(self._study, frozen._trial_id)
        if frozen.state.is_finished():
            self._told.add(trial_id)
        else:  # attempts of drivers before this one
            trial.set_user_attr("attempts", frozen.user_attrs.get("attempts", 0) + 1)
        return trial

    def _replicate_of(self, number: int, proposal: Mapping[str, Any]) -> int | None:
        key = _key(proposal)
        first = self._first[key] = min(number, self._first.get(key, number))
        return first if first < number else None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Update the time budget; Optuna takes no intermediate results with several objectives."""
        self._budget.update(save=False)

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Record the end of a trial, in an order in which a crash at any moment loses nothing.

        In Optuna it is complete only when it ran to its end and every objective is finite, failed when it errored or
        diverged, and pruned when it was stopped early. An unknown trial is ignored.
        """
        if trial_id not in self._ot_trials or trial_id in self._completed_trials:
            return
        # 1. The row on disk. Without it the trial counts as open, and the driver or `resume` runs it again.
        try:
            row = self._before_tell(trial_id, error=error)
        except StillOpenError:
            self.left_open = True
            return
        self._budget.update(save=True)
        # 2. Optuna. If the driver dies before this, the next one tells Optuna from the row.
        if trial_id not in self._told:
            tell(self._study, self._ot_trials[trial_id], outcome_for_optuna(self._search, row))
        self._completed_trials.add(trial_id)
        # 3. MLflow, through the spool. `resume` and `sync` upload what is missing there.
        self._after_tell(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: a resumed study reads Optuna's storage instead."""
        Path(checkpoint_path).write_bytes(b"")

    def __getstate__(self) -> dict[str, Any]:
        """Keep the storage's URL, which may hold a password, out of Tune's own files."""
        return {}


def _first_of_each(study: optuna.Study, space: SearchSpace) -> dict[str, int]:
    """Return, for each distinct proposal of the study so far, the number of the first trial that has it.

    Running trials are left out, since their parameters may be incomplete; they are counted when proposed again.
    """
    first: dict[str, int] = {}
    for frozen in study.get_trials(deepcopy=False):
        if frozen.state.is_finished():
            first.setdefault(_key(space.draw(optuna.trial.FixedTrial(frozen.params))), frozen.number)
    return first


def _key(proposal: Mapping[str, Any]) -> str:
    return json.dumps(proposal, sort_keys=True, default=str)
