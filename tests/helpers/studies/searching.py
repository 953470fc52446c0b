"""A study's searcher without Ray: called as Tune calls it, with rows in memory instead of files."""

from __future__ import annotations

from typing import Any

import optuna

from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.search.optuna_study import enqueue, open_study, trial_id, unfinished
from study.search.searcher import StillOpenError, StudySearcher
from study.search.time_budget import TimeBudget
from trainables.methods.base import build_method
from trainables.spec import TrialSpec
from trainables.training.outcome import spec_columns

GOOD = {"val_clean_accuracy": 0.9, "val_robust_accuracy": 0.4, "status": "completed"}


def study_config(**search: Any) -> StudyConfig:
    """Return the quickstart's config with the default ranges and other search settings."""
    base = load_config("quickstart")
    tree = base.to_dict()
    return StudyConfig.model_validate({**tree, "search": {**tree["search"], "ranges": {}, **search}})


def row_of(config: StudyConfig, spec: TrialSpec, *, number: int, **changes: Any) -> dict[str, Any]:
    """Return the columns of a completed trial's row that a search reads."""
    identity = {"study": config.name, "trial_id": trial_id(number), "number": number, "proposal": "sampler"}
    return {**identity, **GOOD, **spec_columns(spec, build_method(spec.method, spec.params)), **changes}


class Driver:
    """One driver of a study: a searcher and its trials.

    Args:
        config: The study's config.
        storage: Optuna's storage; pass the same to the driver that resumes the study.
        rows: Result rows by trial number, in place of files; also shared with the driver that resumes.
    """

    def __init__(
        self,
        config: StudyConfig,
        storage: optuna.storages.BaseStorage | None = None,
        rows: dict[int, Any] | None = None,
    ) -> None:
        self.storage = storage or optuna.storages.InMemoryStorage()
        self.rows = {} if rows is None else rows
        self.numbers: dict[str, int] = {}
        grid = config.space().grid() if config.search.sampler == "grid" else ()
        self.study = open_study(self.storage, config.name, config.search, grid=grid)
        self.pending = unfinished(self.study, self.rows, config.search)
        self.left_out = enqueue(self.study, config)
        self.searcher = StudySearcher(
            self.study,
            space=config.space(),
            search=config.search,
            configure=lambda number, proposal, kind: {"number": number, "proposal": kind, "spec": dict(proposal)},
            before_tell=self._before_tell,
            pending=self.pending,
            budget=TimeBudget(self.study, limit=config.search.time_limit),
        )

    def _before_tell(self, tune_id: str, *, error: bool) -> dict[str, Any]:
        if self.numbers[tune_id] not in self.rows:
            raise StillOpenError
        row: dict[str, Any] = self.rows[self.numbers[tune_id]]
        return row

    def ask(self) -> Any:
        """Return the next trial's config, or the searcher's answer to Tune if there is none."""
        tune_id = f"tune-{len(self.numbers)}"
        config = self.searcher.suggest(tune_id)
        if isinstance(config, dict):
            self.numbers[tune_id] = config["number"]
        return config

    def end(self, number: int, row: dict[str, Any] | None, *, error: bool = False) -> None:
        """End a proposed trial with its row; None if no row was written."""
        (tune_id,) = [name for name, proposed in self.numbers.items() if proposed == number]
        if row is not None:
            self.rows[number] = row
        self.searcher.on_trial_complete(tune_id, {"epoch": 1}, error=error)

    def run(self, count: int, row: Any = lambda config: GOOD) -> list[dict[str, Any]]:
        """Run `count` trials one after the other, end each with the row of its config, and return the configs."""
        configs = []
        for _ in range(count):
            configs.append(self.ask())
            self.end(configs[-1]["number"], row(configs[-1]))
        return configs
