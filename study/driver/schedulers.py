"""The schedulers: which running trials Tune stops, and why, judged on fresh measurements only.

A scheduler's state is values at epochs. The epoch files hold those of trials that ended, and a resumed trial reports
its own again, so that nothing else needs saving: a resumed study gives a new scheduler the rows on disk.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule

from analysis.data.results import read_epochs
from analysis.data.schema import EPOCH
from analysis.fronts.objectives import OBJECTIVES, directions, values
from study.config.schema import StudyConfig
from study.driver.moasha import judge

CONTINUE, STOP = "CONTINUE", "STOP"

START_SECONDS = 60.0
"""How long a trial waits for the worker that is being started for it before it takes one that became free."""


class StudyScheduler(FIFOScheduler):
    """Runs trials in the order they come and stops those for which `reason_to_stop` gives a reason.

    A trial is judged once per epoch, when a report has values measured at that epoch. Between measurements reports
    repeat the last values, marked `stale`, which are ignored.

    Args:
        objectives: Names of the objectives that trials are judged by.
        epochs: The epochs at which trials are judged; all when None.
    """

    def __init__(self, objectives: list[str], *, epochs: Collection[int] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # untyped in Ray
        self.objectives = objectives
        self.epochs = epochs
        self.seen: dict[int, dict[str, tuple[float, ...]]] = {}
        self.excluded: set[str] = set()
        self._reasons: dict[str, str] = {}
        self._pending: dict[str, float] = {}

    @abstractmethod
    def reason_to_stop(self, trial: str, epoch: int) -> str | None:
        """Return why a trial should be stopped at the epoch just seen, or None."""

    def see(self, trial: str, row: Mapping[str, Any]) -> bool:
        """Record a trial's values from an epoch's row or report, and return whether the trial is to be judged on them.

        Args:
            trial: The trial's id in the study.
            row: Columns of the epoch file.
        """
        epoch = row["epoch"]
        if row["stale"] or (self.epochs is not None and epoch not in self.epochs):
            return False
        at_epoch = self.seen.setdefault(epoch, {})
        if trial in at_epoch:
            return False
        at_epoch[trial] = tuple(values(row, self.objectives).tolist())
        return True

    def forget(self, trial: str) -> None:
        """Drop the values of a trial that ended without epochs on disk."""
        for at_epoch in self.seen.values():
            at_epoch.pop(trial, None)

    def set_excluded(self, trial: str, *, excluded: bool) -> None:
        """Exclude a trial that failed or whose latest measurement is flagged from comparisons, or include it again."""
        (self.excluded.add if excluded else self.excluded.discard)(trial)

    def load_rows(self, rows: Iterable[Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]], /) -> None:
        """Record what earlier drivers of the study wrote to disk: result rows and epoch rows."""
        for row in epochs:
            self.see(row["trial_id"], row)
        for row in rows:
            self.set_excluded(row["trial_id"], excluded=row["status"] == "failed" or bool(row["flags"]))

    def reason(self, tune_id: str) -> str | None:
        """Return why a trial was stopped, by Tune's id of it; None where this scheduler did not stop it."""
        return self._reasons.get(tune_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the trial that gets the next worker, whether one that became free or a new one.

        A trial that was just added comes first, since no worker is being started for it yet. Tune would give a free
        worker to the first trial that waits for its own to start, and cancel that start: where trials end faster than
        workers start, a node that joins would never get one. A trial that has waited for long may have no node at all
        and goes before the others.
        """
        now = time.monotonic()
        pending = [trial for trial in tune_controller.get_trials() if trial.status == "PENDING"]
        added = [trial for trial in pending if trial.trial_id not in self._pending]
        self._pending = {trial.trial_id: self._pending.get(trial.trial_id, now) for trial in pending}
        late = [trial for trial in pending if now - self._pending[trial.trial_id] > START_SECONDS]
        return next(iter([*late, *added, *pending]), None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record a report, and stop the trial where its fresh values give a reason to."""
        name = trial.config["trial_id"]
        if not self._record(name, result) or result["status"] != "running":
            return CONTINUE
        reason = self.reason_to_stop(name, result["epoch"])
        if reason is None:
            return CONTINUE
        self._reasons[trial.trial_id] = reason
        return STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Record the last report of a trial that ended or was stopped."""
        self._record(trial.config["trial_id"], result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial that ended with an error: it has no epochs on disk either."""
        self.forget(trial.config["trial_id"])

    on_trial_remove = on_trial_error

    def _record(self, name: str, result: Mapping[str, Any]) -> bool:
        for row in result.get("earlier", ()):
            self.see(name, row)
        new = self.see(name, result)
        if result["status"] == "failed" or not result["stale"]:
            self.set_excluded(name, excluded=result["status"] == "failed" or bool(result.get("flags")))
        return new


class NoStopping(StudyScheduler):
    """Runs every trial to its end."""

    def __init__(self) -> None:
        super().__init__([], epochs=())

    def reason_to_stop(self, trial: str, epoch: int) -> None:
        """Return None: every trial continues."""

    def _record(self, name: str, result: Mapping[str, Any]) -> bool:
        return False


class MultiObjectiveASHA(StudyScheduler):
    """Asynchronous successive halving on non-dominated rank, then spread; `study.driver.moasha` has the rule.

    Args:
        objectives: Names of the objectives compared.
        rungs: Epochs at which trials are compared, ascending.
        reduction_factor: One in this many trials continues past a rung.
    """

    def __init__(self, objectives: list[str], *, rungs: list[int], reduction_factor: float) -> None:
        super().__init__(objectives, epochs=rungs)
        self._rungs = rungs
        self._factor = reduction_factor

    def reason_to_stop(self, trial: str, epoch: int) -> str | None:
        """Return the rung, place and rank of a trial that the rung stops; None for one that continues."""
        verdict = judge(
            self.seen[epoch],
            trial,
            maximise=directions(self.objectives),
            reduction_factor=self._factor,
            excluded=self.excluded,
        )
        if verdict.continues:
            return None
        rank = "a value is missing or flagged" if verdict.rank is None else f"non-dominated rank {verdict.rank}"
        return (
            f"rung {self._rungs.index(epoch) + 1} (epoch {epoch}): place {verdict.place} of {verdict.trials} "
            f"by rank and spread, the first {verdict.quota} continue ({rank})"
        )


@dataclass(frozen=True, eq=False)
class _TrialHandle:
    """The part of Tune's trial that Ray's schedulers use."""

    trial_id: str


class OnOneMetric(StudyScheduler):
    """One of Ray's own schedulers on one objective, given fresh values only.

    A trial that failed, or whose value is missing or flagged, is neither judged nor compared with others.

    Args:
        metric: Name of the objective.
        make: Builds Ray's scheduler for the time attribute `epoch` and the metric `value`, of which larger is better.
        rule: The rule that a stopped trial failed, for the reason in its row.
        epochs: The epochs at which trials are judged; all when None.
    """

    def __init__(
        self, metric: str, *, make: Callable[[], Any], rule: str, epochs: Collection[int] | None = None
    ) -> None:
        super().__init__([metric], epochs=epochs)
        self._make = make
        self._rule = rule
        self._inner: Any = None
        self._handles: dict[str, _TrialHandle] = {}
        self._unreported: list[tuple[str, int]] = []

    def see(self, trial: str, row: Mapping[str, Any]) -> bool:
        """See `StudyScheduler.see`."""
        new = super().see(trial, row)
        if new:
            self._unreported.append((trial, row["epoch"]))
        return new

    def forget(self, trial: str) -> None:
        """See `StudyScheduler.forget`."""
        super().forget(trial)
        self._inner = None

    def set_excluded(self, trial: str, *, excluded: bool) -> None:
        """See `StudyScheduler.set_excluded`."""
        if excluded != (trial in self.excluded):
            self._inner = None
        super().set_excluded(trial, excluded=excluded)

    def reason_to_stop(self, trial: str, epoch: int) -> str | None:
        """Return the value and the rule by which Ray's scheduler stops a trial; None for one that continues."""
        inner = self._updated(except_for=(trial, epoch))
        if not self._comparable(trial, epoch):
            return None
        decision = inner.on_trial_result(None, self._added(inner, trial), self._report(trial, epoch))
        if decision != STOP:
            return None
        value, others = self.seen[epoch][trial][0], len(self.seen[epoch]) - 1
        return f"epoch {epoch}: {self.objectives[0]} {value:.4g} {self._rule}, compared with {others} others"

    def _updated(self, *, except_for: tuple[str, int]) -> Any:
        """Return Ray's scheduler after giving it all values seen except one."""
        inner = self._inner
        if inner is None:
            inner = self._inner = self._make()
            self._handles = {}
            self._unreported = [(trial, epoch) for epoch in sorted(self.seen) for trial in self.seen[epoch]]
        for trial, epoch in self._unreported:
            if (trial, epoch) != except_for and self._comparable(trial, epoch):
                # unlike on_trial_result this judges nothing
                inner.on_trial_complete(None, self._added(inner, trial), self._report(trial, epoch))
        self._unreported = []
        return inner

    def _added(self, inner: Any, trial: str) -> _TrialHandle:
        handle = self._handles.setdefault(trial, _TrialHandle(trial))
        inner.on_trial_add(None, handle)
        return handle

    def _comparable(self, trial: str, epoch: int) -> bool:
        return trial not in self.excluded and math.isfinite(self.seen.get(epoch, {}).get(trial, (math.nan,))[0])

    def _report(self, trial: str, epoch: int) -> dict[str, Any]:
        value = self.seen[epoch][trial][0]
        return {"epoch": epoch, "value": value if OBJECTIVES[self.objectives[0]].maximise else -value}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out Ray's scheduler, which is rebuilt from the values seen."""
        return {**vars(self), "_inner": None, "_handles": {}, "_unreported": []}


def resumed_scheduler(config: StudyConfig, study_dir: Path, rows: Iterable[Mapping[str, Any]], /) -> StudyScheduler:
    """Return the scheduler of a study with the values on disk: its result rows, and the epoch rows in its folder."""
    scheduler = build_scheduler(config)
    if any((study_dir / EPOCH.folder).glob("*.parquet")):
        # without a damaged file's trials the rungs are less full, which is no reason not to resume the study
        scheduler.load_rows(rows, read_epochs(study_dir, skip_damaged=True).to_pylist())
    return scheduler


def build_scheduler(config: StudyConfig, /) -> StudyScheduler:
    """Return the scheduler of a new study."""
    settings = config.scheduler
    if settings.name == "none":
        return NoStopping()
    axes, factor = settings.axes(), settings.halving()
    rungs = settings.rungs(config.training, config.evaluation)
    if settings.name == "moasha":
        return MultiObjectiveASHA(axes, rungs=rungs, reduction_factor=factor)
    make: Callable[[], Any]
    shared: dict[str, Any] = {"time_attr": "epoch", "metric": "value", "mode": "max", "grace_period": rungs[0]}
    if settings.name == "asha":
        make = partial(AsyncHyperBandScheduler, **shared, reduction_factor=factor, max_t=config.training.epochs)
        return OnOneMetric(axes[0], make=make, rule=f"is not among the best 1 in {factor:g}", epochs=rungs)
    # with a finite time slice Ray's rule would pause a trial that has few others to be compared with
    make = partial(MedianStoppingRule, **shared | {"min_time_slice": math.inf})
    return OnOneMetric(axes[0], make=make, rule="and all earlier values are worse than the median of running means")
