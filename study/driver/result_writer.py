"""Writes a trial's rows to disk when it ends, and keeps count of the rows written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.results import (
    ExistingRowsError,
    example_columns,
    read_results,
    trial_file,
    write_columns,
    write_rows,
)
from analysis.data.schema import EPOCH, EXAMPLE, RESULT
from analysis.fronts.objectives import constraints_text
from study.directory.standing import Standing
from trainables.checkpoints.files import write_text
from trainables.methods import METHODS
from trainables.methods.base import build_method, unbuilt_method
from trainables.registry import OwnCodeError
from trainables.runtime import code_revision
from trainables.settings import settings_of
from trainables.spec import TrialSpec
from trainables.training.outcome import spec_columns

if TYPE_CHECKING:
    from trainables.training.outcome import Outcome


class ResultWriter:
    """Writes each trial's files once and keeps count.

    Args:
        study_dir: The study's folder.
        study: The study's name.
        methods: The methods it searches.
        constraints: Constraints that a trial must satisfy to be on the front.
        reference: Reference values of the hypervolume that the config fixes, by objective.

    Attributes:
        rows: Part of each result row by trial number: status, reason, flags, the data's digest, the code's revision
            and validation values. The driver of a study of many trials keeps no more of them in memory.
        standing: What all rows show so far.
    """

    def __init__(
        self,
        study_dir: Path,
        *,
        study: str,
        methods: Sequence[str] = (),
        constraints: Sequence[str] = (),
        reference: Mapping[str, float] | None = None,
    ) -> None:
        self._dir = study_dir
        # every file has every method's columns, because many Parquet readers take the schema of the first file
        settings = [setting for method in methods for setting in settings_of(METHODS.load(method)).values()]
        self._params = dict.fromkeys(f"param.{setting.name}" for setting in settings if setting.low is not None)
        self._study = study
        self._constraints = constraints_text(constraints)
        self.rows: dict[int, dict[str, Any]] = {}
        self._ids: set[str] = set()
        self.standing = Standing(reference=reference)
        for row in self.read():
            self._count(row)

    def read(self) -> list[dict[str, Any]]:
        """Return the result rows on disk with all their columns."""
        rows: list[dict[str, Any]] = []
        if any((self._dir / RESULT.folder).glob("*.parquet")):
            rows = read_results(self._dir).to_pylist()
        return rows

    def has(self, trial_id: str) -> bool:
        """Return whether the trial's row is on disk."""
        return trial_id in self._ids

    def spec_columns_of(self, config: Mapping[str, Any], /) -> dict[str, Any]:
        """Return the columns of a trial that are known before it starts."""
        spec = TrialSpec.from_dict(config["spec"])
        try:
            method = build_method(spec.method, spec.params)
        except OwnCodeError:  # the trial fails on it too, with this as its reason
            method = unbuilt_method(spec.method, spec.params)
        return (
            self._identity(config)
            | spec_columns(spec, method)
            | {
                "dataset": Path(spec.dataset.name).name,
                "examples": spec.evaluation.examples,
                "lipschitz_examples": spec.evaluation.lipschitz.examples,
            }
        )

    def record(
        self,
        config: Mapping[str, Any],
        outcome: Outcome,
        *,
        status: str,
        run_id: str | None,
        attempts: int | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        """Write a trial's per-example outcomes, epochs and, last, its result row.

        Args:
            config: The trial's Tune config.
            outcome: The worker's measurements.
            status: How the trial ended.
            run_id: Its MLflow run, where known.
            attempts: Number of attempts at it, where known.
            reason: Why it ended so; the outcome's own reason when None.

        Returns:
            The result row. It is written last: where it exists, the trial's other files do too.

        Raises:
            ExistingRowsError: The trial has a row; its files are unchanged.
        """
        identity = self._identity(config)
        trial = identity["trial_id"]
        self._require_new(trial)
        row = identity | outcome.row
        row |= {
            "status": status,
            "reason": reason or outcome.reason,
            "flags": list(outcome.flags),
            "mlflow_run_id": run_id,
        }
        row |= {"checkpoint_path": config.get("checkpoint_dir"), "code_revision": code_revision()}
        row["attempts"] = attempts
        shared = {key: identity[key] for key in ("study", "trial_id")}
        examples_by_checkpoint = {row["checkpoint_kind"]: outcome.examples, "best": outcome.best_examples}
        parts = [
            example_columns(examples, **shared, checkpoint=kind, attack=row["attack"], epsilon=row["eval_epsilon"])
            for kind, examples in examples_by_checkpoint.items()
            if examples
        ]
        if parts:
            columns = {name: [value for part in parts for value in part[name]] for name in parts[0]}
            write_columns(trial_file(self._dir, trial, schema=EXAMPLE), columns, EXAMPLE, replace=True)
        epochs = [{**shared, "number": identity["number"], **epoch} for epoch in outcome.epochs]
        if epochs:
            write_rows(trial_file(self._dir, trial, schema=EPOCH), epochs, EPOCH, replace=True)
        return self._write(row)

    def record_failure(
        self,
        config: Mapping[str, Any],
        *,
        reason: str,
        traceback: str,
        run_id: str | None,
        attempts: int | None = None,
    ) -> dict[str, Any]:
        """Write the row of a trial that ended without an outcome, and its traceback beside the results."""
        row = self.spec_columns_of(config)
        self._require_new(row["trial_id"])
        row |= {"status": "failed", "reason": reason, "flags": [], "epochs": 0, "mlflow_run_id": run_id}
        row |= {"code_revision": code_revision(), "attempts": attempts}
        if traceback:
            path = self._dir / "errors" / f"{row['trial_id']}.txt"
            path.parent.mkdir(exist_ok=True)
            write_text(path, traceback)
        return self._write(row)

    def _require_new(self, trial: str) -> None:
        """Check, before any file of a trial is written, that it has no row."""
        if self.has(trial) or trial_file(self._dir, trial).exists():
            raise ExistingRowsError(f"trial {trial} has a row in {self._dir / RESULT.folder}; it was not changed")

    def _write(self, row: dict[str, Any]) -> dict[str, Any]:
        row = self._params | row
        write_rows(trial_file(self._dir, row["trial_id"]), [row], RESULT)
        self._count(row)
        return row

    def _identity(self, config: Mapping[str, Any]) -> dict[str, Any]:
        of_study = {"study": self._study, "constraints": self._constraints}
        of_trial = {key: config[key] for key in ("trial_id", "number", "proposal")}
        return of_study | of_trial | {"replicate_of": config.get("replicate_of")}

    def _count(self, row: dict[str, Any]) -> None:
        """Add a row. The cost does not grow with the study: only members of the front can still be dominated."""
        self.rows[row["number"]] = {name: row[name] for name in row if name in _KEPT_COLUMNS or name.startswith("val_")}
        self._ids.add(row["trial_id"])
        self.standing.add(row)


_KEPT_COLUMNS = ("trial_id", "number", "status", "reason", "flags", "constraints", "split_hash", "code_revision")
