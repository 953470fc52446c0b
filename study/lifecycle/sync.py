"""The command `sync`: uploads what MLflow is missing of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.heldout.members import CONFIRM_FOLDER
from study.config.file_urls import default_uri
from study.console import notes, quoted, results
from study.directory.layout import open_config
from study.directory.rows import read_rows, strong_results
from study.directory.seed_plan import read_plan
from study.errors import UsageError
from study.evaluation.study_separation import known_classifier
from study.lifecycle.publish import publish
from study.search.optuna_study import out_of_time
from study.tracking.client import store_problem
from study.tracking.study_metadata import settings_of_all_trials, study_params, study_tags
from study.tracking.tracker import FLUSH_SECONDS, known_study_id, open_tracker

SECONDS_A_TRIAL = 5.0
"""Time added per trial to the longest wait: models and figures of front members take long to upload."""


def sync(study_dir: Path, /) -> None:
    """Upload what MLflow is missing of a study and of its new seeds, and read it back.

    The sources are the spool and the result files.

    Raises:
        UsageError: There is no study in the folder, it never ran, or it is running; or MLflow's store is damaged.
        SystemExit: 1 when something is still missing.
    """
    config = open_config(study_dir)
    table = read_rows([study_dir])
    study_id = known_study_id(study_dir)
    if study_id is None:
        raise UsageError(f"{study_dir} has not been tracked yet: run `robust-study resume {quoted(study_dir)}`")
    if (problem := store_problem(config.tracking.uri or default_uri())) is not None:
        raise UsageError(problem)
    plan = read_plan(study_dir)
    tracker = open_tracker(config, study_dir, study_id=study_id, from_start=True)
    tracker.start(study_params(config), study_tags(config))
    tracker.view(settings_of_all_trials(config))
    tracker.settle(table.to_pylist())
    if table.num_rows and plan is None:
        from analysis.plots.trials.pareto import write_pareto

        known: dict[str, Any] = {
            "strong": strong_results(study_dir, table),
            "classifier": known_classifier(study_dir, table),
        }
        write_pareto(table, study_dir / "figures", **known)
        publish(config, study_dir, table, tracker=tracker)
    complete = table.num_rows >= config.num_trials or out_of_time(config, study_dir)
    problem = tracker.close(
        "FINISHED" if complete else "KILLED",
        reason=None if complete else "stopped before all trials were done",
        timeout=FLUSH_SECONDS + SECONDS_A_TRIAL * table.num_rows,
    )
    if problem:
        notes().print(f"MLflow at {tracker.uri} is still missing: {problem}")
        raise SystemExit(1)
    results().print(f"tracking verified: {table.num_rows} trials in {tracker.uri}")
    if plan is None and read_plan(study_dir / CONFIRM_FOLDER) is not None:
        sync(study_dir / CONFIRM_FOLDER)
