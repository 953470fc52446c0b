"""Trains one trial without Ray: from a spec, or a study's trial to check that its row is reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.config.loading import load_spec
from study.console import duration, notes, results
from study.directory.data_notes import data_notes
from study.directory.layout import open_config
from study.directory.rows import read_rows
from study.errors import UsageError, usage_errors
from trainables.spec import TrialSpec


def retrain(source: Path, /, *, trial: str | None, save: Path | None, as_json: bool) -> None:
    """Train one trial, print its row, and compare it with the study's.

    Args:
        source: A study's folder, or a spec as YAML.
        trial: Id of the study's trial.
        save: File for the last checkpoint; none is written when None.
        as_json: Print the row as one JSON object.

    Raises:
        UsageError: The study, trial or spec does not exist or is invalid.
        SystemExit: 1 when the row differs from the study's.
    """
    recorded: dict[str, Any] | None = None
    if source.is_dir():
        if trial is None:
            raise UsageError(f"--trial ID is required for a study folder: which trial of {source} to train")
        spec, recorded = _trial_of_study(source, trial)
    elif trial is not None:
        raise UsageError(f"--trial requires a study folder, got {source}")
    else:
        if not source.is_file():
            raise UsageError(f"{source} is neither a study folder nor a spec file")
        spec = load_spec(source)
    if save is not None and save.is_dir():
        raise UsageError(f"--save must name a file, got the folder {save}")
    stopped = recorded is not None and recorded["status"] == "stopped_early"
    row = _train(spec, save=save, epochs=recorded["epochs"] if recorded is not None and stopped else None)
    if as_json:
        results().print_json(data=row)
    else:
        _print_row(row)
    if recorded is not None:
        _compare(recorded, row, source=source)


def _train(spec: TrialSpec, *, save: Path | None, epochs: int | None) -> dict[str, Any]:
    """Return the row of a trial trained to its end, or for `epochs` epochs to reproduce one that was stopped early."""
    from trainables.data import DataError, load_dataset
    from trainables.training.fit import trainer_for

    console = notes()
    with usage_errors(DataError, ValueError):
        data = load_dataset(spec.dataset)
        for line in data_notes(data):
            console.print(line)
        trainer = trainer_for(spec, data=data)
        while not trainer.done and trainer.epoch != epochs:
            row = trainer.run_epoch()
            console.print(
                f"epoch {row['epoch']}/{spec.training.epochs} · loss {_number(row['loss'])} · "
                f"val clean accuracy {_number(row['val_clean_accuracy'])} · {duration(row['seconds'])}",
            )
        outcome = trainer.outcome()
    if save is not None:
        trainer.save(save)
        console.print(f"wrote {save}")
    return {"status": outcome.status, "reason": outcome.reason, "flags": list(outcome.flags), **outcome.row}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _trial_of_study(study_dir: Path, trial: str) -> tuple[TrialSpec, dict[str, Any]]:
    from study.search.trial_specs import spec_of

    config = open_config(study_dir)
    rows = {row["trial_id"]: row for row in read_rows([study_dir]).to_pylist()}
    trial_id = trial.zfill(len(next(iter(rows)))) if rows else trial
    if trial_id not in rows:
        existing = f"{min(rows)} to {max(rows)}" if rows else "none yet"
        raise UsageError(f"{study_dir} has no result of trial {trial!r}; it has: {existing}")
    return spec_of(config, study_dir, rows[trial_id]), rows[trial_id]


def _print_row(row: dict[str, Any]) -> None:
    console = results()
    width = max(map(len, row))
    for name, value in row.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        console.print(f"{name:<{width}}  {shown}")


def _compare(recorded: dict[str, Any], row: dict[str, Any], *, source: Path) -> None:
    from analysis.data.schema import RESULT, differing_columns

    of_study = ["study", "trial_id", "number", "proposal", "replicate_of", "config_hash", "constraints"]
    if recorded["status"] == "stopped_early":
        of_study.append("reason")  # it depends on the study's other trials
    columns = [name for name in (*RESULT.deterministic_columns(), *row) if name not in of_study]
    compared = [name for name in dict.fromkeys(columns) if (column := RESULT.find(name)) and column.deterministic]
    differing = differing_columns(recorded, row, columns=compared)
    console = results()
    if not differing:
        console.print(
            f"agrees with trial {recorded['trial_id']} of {source} in all {len(compared)} deterministic columns"
        )
        return
    for name, (was, now) in differing.items():
        console.print(f"differs: {name} was {was!r}, is {now!r}")
    raise SystemExit(1)
