"""A study with real checkpoints and rows, without Ray or tracking, as its driver would have left it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.config.loading import load_config
from study.config.paths import resolved
from study.directory.checkpoint_folder import OWNER_FILE, claim
from study.directory.layout import create
from study.driver.result_writer import ResultWriter
from study.search.optuna_study import open_search, outcome_for_optuna, tell, trial_id
from study.search.trial_specs import specs_of
from trainables.data import load_dataset
from trainables.training.loop import Trainer

CONFIG: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 200},
    "model": {"name": "mlp"},
    "training": {"epochs": 1, "batch_size": 100},
    "evaluation": {"attack": "pgd", "margin_check": False, "epsilon": 0.1, "steps": 1, "examples": 20},
}


def trained_study(out: Path, name: str, /, *, shared: Path | None, trials: int = 1, earlier: bool = False) -> Path:
    """Train a study's trials and return its folder; studies of different names propose different dropouts.

    Args:
        out: The parent of its folder.
        name: Its name.
        shared: Its `storage.checkpoints`.
        trials: How many are trained.
        earlier: As an earlier version left it: its checkpoints are in `shared` itself.
    """
    search = {"space": "core", "num_trials": 8, "methods": ["natural"], "fixed": {}, "random_fraction": 1.0}
    search["ranges"] = {"dropout": [0.1, 0.2] if name < "b" else [0.3, 0.4]}
    storage = {"checkpoints": None if shared is None else str(shared)}
    config = resolved(load_config({**CONFIG, "name": name, "search": search, "storage": storage}))
    folder = create(config, out)
    study = open_search(config, folder)
    root = claim(config, folder, study_id="", specs=lambda: specs_of(config, folder, study))
    if earlier:
        assert shared is not None
        (folder / OWNER_FILE).unlink()
        (Path(root) / OWNER_FILE).unlink()
        root = shared
    data = load_dataset(config.dataset).without_test()
    writer = ResultWriter(folder, study=name, methods=config.search.methods)
    for number in range(trials):
        trial = study.ask()
        spec = config.trial_spec(config.space().draw(trial), number=number)
        trial.set_user_attr("proposal", "random")
        trainer = Trainer(spec, data=data)
        trainer.run_epoch()
        place = Path(root) / trial_id(number)
        trainer.save_checkpoints(place)
        keys = {"trial_id": trial_id(number), "number": number, "proposal": "random", "spec": spec.to_dict()}
        row = writer.record({**keys, "checkpoint_dir": str(place)}, trainer.outcome(), status="completed", run_id=None)
        tell(study, trial, outcome_for_optuna(config.search, row))
    return folder
