"""A real study without Ray: the same config, result writer, tracker and finish, with one trial after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest

from study.config.loading import load_config
from study.config.paths import resolved
from study.directory.layout import create
from study.driver.result_writer import ResultWriter
from study.lifecycle.finish import finish
from study.search.optuna_study import open_search, outcome_for_optuna, tell, trial_id
from study.tracking.row_mapping import epoch_metrics, params, tags
from study.tracking.study_metadata import dataset_event, settings_of_all_trials, study_params, study_tags
from study.tracking.tracker import Tracker
from trainables.data import load_dataset
from trainables.training.loop import Trainer


def leave_out_pictures(patch: pytest.MonkeyPatch) -> None:
    """Let studies end without figures, report and models in MLflow, which take most of the end."""
    patch.setattr("study.lifecycle.finish._draw", lambda *_, **__: [])
    patch.setattr("study.lifecycle.publish.publish_members", lambda *_, **__: None)
    patch.setattr("study.lifecycle.publish._write_report", lambda *_: None)


def run_plain(source: Path | str, out: Path, *, assignments: Sequence[str] = ()) -> Path:
    """Run the trials of a config or preset, changed as by `--set`, with random proposals; return the study's folder."""
    config = resolved(load_config(str(source), assignments=list(assignments), data_root=None, address=None))
    folder = create(config, out)
    data = load_dataset(config.dataset).without_test()
    writer = ResultWriter(folder, study=config.name, methods=config.search.methods)
    tracking = config.tracking
    tracker = Tracker(
        study=config.name, study_id="plain", study_dir=folder, uri=tracking.uri, experiment=tracking.experiment
    )
    tracker.start(study_params(config), study_tags(config))
    tracker.view(settings_of_all_trials(config))
    tracker.dataset(**dataset_event(data))
    search = open_search(config, folder)
    search.sampler = optuna.samplers.RandomSampler(seed=0)
    for number in range(config.num_trials):
        name = trial_id(number)
        trial = search.ask()
        spec = config.trial_spec(config.space().draw(trial), number=number)
        keys = {"trial_id": name, "number": number, "proposal": "random", "spec": spec.to_dict()}
        columns = writer.spec_columns_of({**keys, "checkpoint_dir": str(folder / "checkpoints" / name)})
        tracker.trial_started(name, params(columns), tags(columns))
        trainer = Trainer(spec, data=data)
        while not trainer.done:
            row = trainer.run_epoch()
            tracker.trial_reported(name, row["epoch"], epoch_metrics(row))
        trainer.save_checkpoints(folder / "checkpoints" / name)
        outcome = trainer.outcome()
        config_of_trial = {**keys, "checkpoint_dir": str(folder / "checkpoints" / name)}
        ended = writer.record(config_of_trial, outcome, status=outcome.status, run_id=tracker.run_id(name))
        tell(search, trial, outcome_for_optuna(config.search, ended))
        tracker.trial_ended(ended)
        tracker.study_reported(writer.standing.done, writer.standing.metrics())
        tracker.front(writer.standing.front.trial_ids)
    assert finish(config, folder, tracker=tracker)
    return folder
