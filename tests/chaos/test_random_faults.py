"""Two studies that share their storage and MLflow's, under an hour of random faults: each keeps what is its own.

ROBUST_STUDY_CHAOS_MINUTES sets another length.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import torch
from helpers.services.ray_cluster import descendants
from helpers.studies.small_study import SmallStudy
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from analysis.data.schema import RESULT
from study.directory.layout import open_config
from study.directory.rows import evaluation_rows
from study.lifecycle.train_trial import retrain
from study.search.trial_specs import spec_of
from trainables.checkpoints.weights import load_weights, read_weights
from trainables.data import load_dataset
from trainables.evaluation.trial import measured_part
from trainables.models.network import network

pytestmark = pytest.mark.chaos

SEED = 23
MINUTES = float(os.environ.get("ROBUST_STUDY_CHAOS_MINUTES", "60"))
MORE = 6
"""Trials that a study gets on top each time it has run to its end."""

RETRAINED = 4
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class SharingStudy(SmallStudy):
    """A study in a folder of its own whose checkpoints, Optuna storage and MLflow store are shared with another."""

    def __init__(self, shared: Path, name: str, *, seed: int) -> None:
        self.shared = shared
        changes = {
            "name": name,
            "search": {"num_trials": MORE, "seed": seed},
            "resources": {"max_concurrent": 1},
            "storage": {
                "checkpoints": str(shared / "checkpoints"),
                "optuna": f"journal:{shared}/optuna.log",
                "keep": "all",
            },
            "tracking": {"uri": f"sqlite:///{shared}/mlflow.db", "experiment": "shared"},
        }
        super().__init__(shared.parent / name, changes)
        self.driver = self.launch()
        self.seen: dict[str, dict[str, object]] = {}
        self.deaths: list[int] = []

    def optuna(self) -> optuna.Study:
        storage = JournalStorage(JournalFileBackend(str(self.shared / "optuna.log")))
        return optuna.load_study(study_name=self.config["name"], storage=storage)

    @property
    def checkpoints(self) -> Path:
        """Its own folder in the shared storage."""
        (folder,) = (self.shared / "checkpoints").glob(f"{self.config['name']}-*/")
        return folder

    def keep_running(self) -> None:
        """Note the rows that are there, and start a driver where none runs."""
        self.note_rows()
        code = self.driver.poll()
        if code is None:
            return
        self.deaths.append(code)
        # it has no handler of SIGTERM yet while it starts
        assert code in (0, 1, 143, -signal.SIGTERM, -signal.SIGKILL), self.output[-3000:]
        if code == 0:
            self.driver = self.start("resume", str(self.dir), "--add-trials", str(MORE))
        elif (self.dir / "study.yaml").exists():
            self.driver = self.resume()
        else:
            self.driver = self.launch()

    def note_rows(self) -> None:
        """Check that no row that was ever seen has changed."""
        rows = self.contents() if self.dir.exists() else {}
        for trial, row in rows.items():
            kept = {name: repr(row[name]) for name in RESULT.deterministic_columns() if name in row}
            assert self.seen.setdefault(trial, kept) == kept

    def kill(self) -> None:
        if self.driver.poll() is None:
            os.kill(self.driver.pid, signal.SIGKILL)
            self.driver.wait()

    def end(self) -> None:
        """Let it run to its end, undisturbed."""
        if self.driver.poll() is None:
            self.driver.wait(900)
        for _ in range(3):
            if self.driver.returncode == 0:
                return
            self.driver = self.resume()
            self.driver.wait(900)
        raise AssertionError(self.output[-3000:])


def driver_killed(study, draw):
    study.kill()


def driver_stopped(study, draw):
    if study.driver.poll() is None:
        os.kill(study.driver.pid, signal.SIGTERM)
        study.driver.wait(180)


def worker_killed(study, draw):
    for pid in descendants(study.driver.pid):
        try:
            if b"Trainable" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                return
        except OSError:
            continue


def checkpoint_damaged(study, draw):
    """Leave half of the weights of a trial that is not done."""
    paths = [path for path in study.checkpoints.glob("*/last.pt") if path.parent.name not in study.seen]
    if paths:
        path = draw.choice(paths)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def row_damaged(study, draw):
    """Damage a row while no driver runs: `resume` names it, and writes an equal one once it is moved away."""
    study.kill()
    paths = sorted((study.dir / "results").glob("[0-9]*.parquet"))
    if paths:
        path = draw.choice(paths)
        path.write_bytes(path.read_bytes()[:300])
        refused = study.call("resume", str(study.dir))
        assert refused.returncode == 2, refused.stderr
        assert path.name in refused.stderr
        path.unlink()


def second_driver(study, draw):
    """Start a driver beside the one that runs, by a clock that differs by minutes where libfaketime is there."""
    clock = {}
    if FAKETIME is not None:
        offset = draw.choice(["+150s", "-150s"])
        clock = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    if study.driver.poll() is not None or not (study.dir / "driver.json").exists():
        return
    second = study.start("resume", str(study.dir), environment=clock)
    deadline = time.monotonic() + 180
    while second.poll() is None and study.driver.poll() is None:
        assert time.monotonic() < deadline, "a second driver is not refused"
        time.sleep(0.2)
    if second.poll() is None:  # the first ended on its own while this one started
        study.deaths.append(study.driver.returncode)
        study.driver = second
    else:
        assert second.returncode == 2 or study.driver.poll() is not None, study.output[-3000:]


def two_in_one_second(study, draw):
    """Start two drivers at once: one runs the study, the other is refused."""
    study.kill()
    if not (study.dir / "study.yaml").exists():
        return
    pair = [study.resume(), study.resume()]
    deadline = time.monotonic() + 120
    while all(driver.poll() is None for driver in pair):
        assert time.monotonic() < deadline, "two drivers run one study"
        time.sleep(0.2)
    ended = [driver for driver in pair if driver.poll() is not None]
    (study.driver,) = [driver for driver in pair if driver is not ended[0]]
    assert ended[0].returncode in (0, 2), study.output[-3000:]


FAULTS = (
    driver_killed, driver_stopped, worker_killed, worker_killed, checkpoint_damaged, row_damaged, second_driver,
    two_in_one_second,
)  # fmt: skip


def storage_of_earlier(pair, draw):
    """Put back an earlier copy of Optuna's storage, without the trials that came after it."""
    for study in pair:
        study.kill()
    copy = pair[0].shared / "backup.log"
    if copy.exists():
        copy.replace(pair[0].shared / "optuna.log")


def backup(pair):
    storage, copy = pair[0].shared / "optuna.log", pair[0].shared / "backup.log"
    if storage.exists() and not copy.exists():
        # whole lines: a copy of a file that is being written to may end within one
        copy.write_bytes(storage.read_bytes().rpartition(b"\n")[0] + b"\n")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return the two studies after the faults, run to their ends; and how often each fault happened."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "shared").mkdir()
    draw, counts = random.Random(SEED), Counter()
    studies = (SharingStudy(folder / "shared", "first", seed=1), SharingStudy(folder / "shared", "second", seed=2))
    try:
        end = time.monotonic() + 60 * MINUTES
        while time.monotonic() < end:
            time.sleep(draw.uniform(5, 40))
            for study in studies:
                study.keep_running()
            if draw.random() < 0.06:
                storage_of_earlier(studies, draw)
                counts["storage_of_earlier"] += 1
            else:
                fault = draw.choice(FAULTS)
                fault(draw.choice(studies), draw)
                counts[fault.__name__] += 1
            if draw.random() < 0.2:
                backup(studies)
            for study in studies:
                study.keep_running()
        for study in studies:
            study.end()
            study.note_rows()
    finally:
        for study in studies:
            study.kill()
    return studies, counts


def test_each_has_its_rows_and_no_trial_twice(pair, note):
    studies, counts = pair
    for study in studies:
        rows = study.rows()
        assert [row["number"] for row in rows] == list(range(len(rows)))
        assert set(study.seen) == {row["trial_id"] for row in rows}
        assert {row["status"] for row in rows} == {"completed"}, Counter(row["reason"] for row in rows)
        trials = study.optuna().trials
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * len(rows)
        values = [[row["val_clean_accuracy"], row["val_robust_accuracy"]] for row in rows]
        assert [trial.values for trial in trials] == values
        assert "Traceback" not in study.output
    seen = ", ".join(f"{count} x {name.replace('_', ' ')}" for name, count in sorted(counts.items()))
    ends = sum((Counter(study.deaths) for study in studies), Counter())
    note(f"{MINUTES:g} minutes of faults", seen, f"{[len(study.rows()) for study in studies]} rows; driver ends {ends}")


def test_mlflow_has_one_finished_run_for_each_trial_of_each(pair):
    studies, _ = pair
    shared, runs = studies[0].shared, Counter()
    query = "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid where t.key = ?"
    with closing(sqlite3.connect(shared / "mlflow.db")) as store:
        for trial, status in store.execute(query, ("robust_study.trial_id",)):
            runs[trial, status] += 1
    expected = Counter((row["trial_id"], "FINISHED") for study in studies for row in study.rows())
    assert runs == expected + Counter({("study", "FINISHED"): 2})


def accuracy(study, row, split):
    """Measure a trial's weights on the images that its row counts, with nothing of the study's own measurement."""
    config = open_config(study.dir)
    spec, data = spec_of(config, study.dir, row), load_dataset(config.dataset)
    model, layout = network(spec, data, device=torch.device("cpu"))
    path = study.checkpoints / row["trial_id"] / "last.pt"
    load_weights(model, read_weights(path)[0], source=path)
    images, labels = measured_part(
        getattr(data, split), spec.evaluation.examples, scale=data.scale, layout=layout, device=torch.device("cpu")
    )
    with torch.no_grad():
        return float((model.eval()(images).argmax(1) == labels).double().mean())


def test_each_row_is_what_its_own_checkpoint_gives(pair):
    for study in pair[0]:
        for row in study.rows():
            assert accuracy(study, row, "val") == pytest.approx(row["val_clean_accuracy"]), row["trial_id"]


def test_test_numbers_are_each_studys_own(pair):
    for study in pair[0]:
        trials = [row["trial_id"] for row in study.rows()]
        words = [word for trial in trials for word in ("--trial", trial)]
        # its certified bounds take seconds for each of a hundred trials or more
        assert study.start("evaluate", str(study.dir), *words).wait(3600) == 0, study.output[-3000:]
        tested = {
            row["trial_id"]: row["clean_accuracy"] for row in evaluation_rows(study.dir) if row["split"] == "test"
        }
        assert sorted(tested) == sorted(trials)
        for row in study.rows():
            assert accuracy(study, row, "test") == pytest.approx(tested[row["trial_id"]]), row["trial_id"]


def test_rows_are_reproduced_by_single_trials(pair, capsys):
    for study in pair[0]:
        rows = study.rows()
        for row in random.Random(SEED).sample(rows, min(RETRAINED, len(rows))):
            retrain(study.dir, trial=row["trial_id"], save=None, as_json=False)
            assert "agrees with trial" in capsys.readouterr().out
