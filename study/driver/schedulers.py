"""The schedulers: which running trials Tune stops, and why, judged on fresh measurements only.

What a scheduler knows are values at epochs. The epoch files hold them for trials that ended, and a resumed trial
reports its own again, so there is no state to keep: a resumed study tells a new scheduler what is on disk.
"""

from __future__ import annotations

import json
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
"""How long a trial is left to the worker that is being started for it before it is given one that became free."""


class StudyScheduler(FIFOScheduler):
    """Runs trials in the order they come and stops those that `reason_to_stop` gives a reason for.

    A trial is judged once at an epoch, when a report carries values measured at that very epoch; between measurements
    they are carried along, marked `stale`, and say nothing new.

    Args:
        objectives: Names of the objectives it looks at.
        epochs: The only epochs it looks at; all when None.
    """

    def __init__(self, objectives: list[str], *, epochs: Collection[int] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Ray leaves it untyped
        self.objectives = objectives
        self.epochs = epochs
        self.seen: dict[int, dict[str, tuple[float, ...]]] = {}
        self.excluded: set[str] = set()
        self._reasons: dict[str, str] = {}
        self._pending: dict[str, float] = {}

    @abstractmethod
    def reason_to_stop(self, trial: str, epoch: int) -> str | None:
        """Return why a trial should be stopped at an epoch just seen, or None."""

    def see(self, trial: str, row: Mapping[str, Any]) -> bool:
        """Take a trial's values from an epoch's row or report, and return whether they are new and worth a judgement.

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
        """Drop what was seen of a trial that ended without a record."""
        for at_epoch in self.seen.values():
            at_epoch.pop(trial, None)

    def discount(self, trial: str, *, excluded: bool) -> None:
        """Let a trial count nothing, because it failed or its latest measurement is flagged; or take that back."""
        (self.excluded.add if excluded else self.excluded.discard)(trial)

    def recall(self, rows: Iterable[Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]], /) -> None:
        """Take what earlier drivers of the study left on disk.

        Args:
            rows: Result rows.
            epochs: Epoch rows.
        """
        for row in epochs:
            self.see(row["trial_id"], row)
        for row in rows:
            self.discount(row["trial_id"], excluded=row["status"] == "failed" or bool(row["flags"]))

    def reason(self, tune_id: str) -> str | None:
        """Return why the trial that Tune calls so was stopped; None where it was not stopped here."""
        return self._reasons.get(tune_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the trial that gets the next worker, which is one that has become free or else a new one.

        A trial that has just been added, for which no worker is being started yet. Tune would give a free worker to the
        first that waits for its own to start, and end that start: where trials end more often than a worker takes
        to start, a node that joins would never get one. What has waited for long may have no node, and goes first.
        """
        now = time.monotonic()
        pending = [trial for trial in tune_controller.get_trials() if trial.status == "PENDING"]
        added = [trial for trial in pending if trial.trial_id not in self._pending]
        self._pending = {trial.trial_id: self._pending.get(trial.trial_id, now) for trial in pending}
        late = [trial for trial in pending if now - self._pending[trial.trial_id] > START_SECONDS]
        return next(iter([*late, *added, *pending]), None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note a report, and stop the trial where its fresh values say so."""
        name = trial.config["trial_id"]
        if not self._take(name, result) or result["status"] != "running":
            return CONTINUE
        reason = self.reason_to_stop(name, result["epoch"])
        if reason is None:
            return CONTINUE
        self._reasons[trial.trial_id] = reason
        return STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Note the last report of a trial that ended or was stopped."""
        self._take(trial.config["trial_id"], result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial that ended in an error: it leaves no epochs on disk either."""
        self.forget(trial.config["trial_id"])

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial that was taken away before it ran."""
        self.forget(trial.config["trial_id"])

    def debug_string(self) -> str:
        """Return one line for Tune's own output."""
        return f"{type(self).__name__}: {len(self._reasons)} trials stopped"

    def save(self, checkpoint_path: str) -> None:
        """Write what was seen to a file. Tune does not ask for it, and a study's own files hold the same."""
        state = {"seen": self.seen, "worthless": sorted(self.excluded), "reasons": self._reasons}
        Path(checkpoint_path).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Take what `save` wrote in place of what was seen."""
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        self.seen = {
            int(epoch): {trial: tuple(found) for trial, found in at_epoch.items()}
            for epoch, at_epoch in state["seen"].items()
        }
        self.excluded, self._reasons = set(state["worthless"]), state["reasons"]

    def _take(self, name: str, result: Mapping[str, Any]) -> bool:
        for row in result.get("earlier", ()):
            self.see(name, row)
        new = self.see(name, result)
        if result["status"] == "failed" or not result["stale"]:
            self.discount(name, excluded=result["status"] == "failed" or bool(result.get("flags")))
        return new


class NoStopping(StudyScheduler):
    """Runs every trial to its end."""

    def __init__(self) -> None:
        super().__init__([], epochs=())

    def reason_to_stop(self, trial: str, epoch: int) -> None:
        """Return None: every trial goes on."""

    def _take(self, name: str, result: Mapping[str, Any]) -> bool:
        return False


class MultiObjectiveASHA(StudyScheduler):
    """Asynchronous successive halving on non-dominated rank, then spread; `study.driver.moasha` has the rule.

    Args:
        objectives: Names of the objectives compared.
        rungs: Epochs at which trials are compared, ascending.
        reduction_factor: One in so many goes on from a rung.
    """

    def __init__(self, objectives: list[str], *, rungs: list[int], reduction_factor: float) -> None:
        super().__init__(objectives, epochs=rungs)
        self._rungs = rungs
        self._factor = reduction_factor

    def reason_to_stop(self, trial: str, epoch: int) -> str | None:
        """Return the rung, place and rank of a trial that the rung does not let go on."""
        verdict = judge(
            self.seen[epoch],
            trial,
            maximise=directions(self.objectives),
            reduction_factor=self._factor,
            excluded=self.excluded,
        )
        if verdict.goes_on:
            return None
        rank = "a value is missing or flagged" if verdict.rank is None else f"non-dominated rank {verdict.rank}"
        return (
            f"rung {self._rungs.index(epoch) + 1} (epoch {epoch}): place {verdict.place} of {verdict.trials} "
            f"by rank and spread, the first {verdict.quota} go on ({rank})"
        )


@dataclass(frozen=True, eq=False)
class _Named:
    """What Ray's schedulers need to know of a trial."""

    trial_id: str


class OnOneMetric(StudyScheduler):
    """One of Ray's own schedulers on one objective, told of fresh values only.

    A trial that failed, or whose value is missing or flagged, is neither judged nor compared with.

    Args:
        metric: Name of the objective.
        make: Builds Ray's scheduler for the time attribute `epoch` and the metric `value`, larger being better.
        rule: What a stopped trial missed, for its reason.
        epochs: The only epochs it looks at; all when None.
    """

    def __init__(
        self, metric: str, *, make: Callable[[], Any], rule: str, epochs: Collection[int] | None = None
    ) -> None:
        super().__init__([metric], epochs=epochs)
        self._make = make
        self._rule = rule
        self._inner: Any = None
        self._named: dict[str, _Named] = {}
        self._untold: list[tuple[str, int]] = []

    def see(self, trial: str, row: Mapping[str, Any]) -> bool:
        """See `StudyScheduler.see`."""
        new = super().see(trial, row)
        if new:
            self._untold.append((trial, row["epoch"]))
        return new

    def forget(self, trial: str) -> None:
        """See `StudyScheduler.forget`."""
        super().forget(trial)
        self._inner = None

    def discount(self, trial: str, *, excluded: bool) -> None:
        """See `StudyScheduler.discount`."""
        if excluded != (trial in self.excluded):
            self._inner = None
        super().discount(trial, excluded=excluded)

    def restore(self, checkpoint_path: str) -> None:
        """See `StudyScheduler.restore`."""
        super().restore(checkpoint_path)
        self._inner = None

    def reason_to_stop(self, trial: str, epoch: int) -> str | None:
        """Return what Ray's scheduler missed in a trial's value, or None where it goes on."""
        inner = self._informed(but=(trial, epoch))
        if not self._comparable(trial, epoch):
            return None
        decision = inner.on_trial_result(None, self._introduced(inner, trial), self._report(trial, epoch))
        if decision != STOP:
            return None
        value, others = self.seen[epoch][trial][0], len(self.seen[epoch]) - 1
        return f"epoch {epoch}: {self.objectives[0]} {value:.4g} {self._rule}, among {others} others"

    def _informed(self, *, but: tuple[str, int]) -> Any:
        """Return Ray's scheduler, told of everything seen except one value."""
        inner = self._inner
        if inner is None:
            inner = self._inner = self._make()
            self._named = {}
            self._untold = [(trial, epoch) for epoch in sorted(self.seen) for trial in self.seen[epoch]]
        for trial, epoch in self._untold:
            if (trial, epoch) != but and self._comparable(trial, epoch):
                # unlike on_trial_result this judges nothing
                inner.on_trial_complete(None, self._introduced(inner, trial), self._report(trial, epoch))
        self._untold = []
        return inner

    def _introduced(self, inner: Any, trial: str) -> _Named:
        named = self._named.setdefault(trial, _Named(trial))
        inner.on_trial_add(None, named)
        return named

    def _comparable(self, trial: str, epoch: int) -> bool:
        return trial not in self.excluded and math.isfinite(self.seen.get(epoch, {}).get(trial, (math.nan,))[0])

    def _report(self, trial: str, epoch: int) -> dict[str, Any]:
        value = self.seen[epoch][trial][0]
        return {"epoch": epoch, "value": value if OBJECTIVES[self.objectives[0]].maximise else -value}

    def __getstate__(self) -> dict[str, Any]:
        """Leave Ray's scheduler out: it is built again from what was seen."""
        return {**vars(self), "_inner": None, "_named": {}, "_untold": []}


def informed_scheduler(config: StudyConfig, study_dir: Path, rows: Iterable[Mapping[str, Any]], /) -> StudyScheduler:
    """Return the scheduler of a study, told of what is on disk.

    Args:
        config: The study's config.
        study_dir: Its folder.
        rows: Its result rows.
    """
    scheduler = build_scheduler(config)
    if any((study_dir / EPOCH.folder).glob("*.parquet")):
        # a damaged file costs its trials their places at the rungs, not the study its resumption
        scheduler.recall(rows, read_epochs(study_dir, skip_damaged=True).to_pylist())
    return scheduler


def build_scheduler(config: StudyConfig, /) -> StudyScheduler:
    """Return the scheduler of a study, which has seen nothing yet."""
    chosen = config.scheduler
    if chosen.name == "none":
        return NoStopping()
    axes, factor = chosen.axes(), chosen.halving()
    rungs = chosen.rungs(config.training, config.evaluation)
    if chosen.name == "moasha":
        return MultiObjectiveASHA(axes, rungs=rungs, reduction_factor=factor)
    make: Callable[[], Any]
    shared: dict[str, Any] = {"time_attr": "epoch", "metric": "value", "mode": "max", "grace_period": rungs[0]}
    if chosen.name == "asha":
        make = partial(AsyncHyperBandScheduler, **shared, reduction_factor=factor, max_t=config.training.epochs)
        return OnOneMetric(axes[0], make=make, rule=f"misses the best 1 in {factor:g}", epochs=rungs)
    # Ray's rule would pause a trial while there are few to compare it with, had it not a time slice without end
    make = partial(MedianStoppingRule, **shared | {"min_time_slice": math.inf})
    return OnOneMetric(axes[0], make=make, rule="and all before it miss the median of running means")
