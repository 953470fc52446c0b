"""Tracking as the driver sees it: events are handed over and never waited for, and no failure comes back."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config.values import default_uri
from study.directory.layout import FOLDER
from study.tracking.client import DEFAULT_EXPERIMENT, short
from study.tracking.row_mapping import STUDY, params, span, tags
from study.tracking.spool import Spool
from study.tracking.uploader import Uploader

if TYPE_CHECKING:
    from study.tracking.store import Store

logger = logging.getLogger(__name__)

ID_FILE = "study_id"
STORE_FILE = "store"
"""Holds a digest of where updates go, since an address may hold a password."""
FLUSH_SECONDS = 60.0
SHOWN = 5


def known_study_id(study_dir: Path, /) -> str | None:
    """Return the id under which a study's runs are found; None where it was never tracked."""
    try:
        return (study_dir / FOLDER / ID_FILE).read_text(encoding="ascii")
    except FileNotFoundError:
        return None


class Tracker:
    """One parent run for a study, one child run for each trial.

    Every public method but `close` only appends to the study's spool, some microseconds; a thread sends it on.
    Runs are found by their tags before they are created, so a resumed study goes on in the same runs.

    Args:
        study: The study's name, also the parent run's.
        study_id: What identifies the study, whatever its name or folder.
        study_dir: The study's folder.
        uri: Tracking URI; None is SQLite in the working folder.
        experiment: Experiment name; None is `robust-study`.
        from_start: Send the whole spool again; what has arrived is recognised. So it is done for another store than
            before.
        parent_study_id: Id of the study beneath whose parent run this one's lies; None where it stands alone.

    Raises:
        SpoolBusyError: Another process tracks this study.
    """

    def __init__(
        self,
        *,
        study: str,
        study_id: str,
        study_dir: Path,
        uri: str | None = None,
        experiment: str | None = None,
        from_start: bool = False,
        parent_study_id: str | None = None,
    ) -> None:
        self.uri = uri or default_uri()
        self.experiment = experiment or DEFAULT_EXPERIMENT
        self._study = study
        self._study_id = study_id
        self._parent_study_id = parent_study_id
        self._dir = study_dir
        self._spool = Spool(study_dir)
        elsewhere = self._goes_elsewhere()
        if from_start or elsewhere:
            self._spool.uploaded(0)
        (study_dir / FOLDER / ID_FILE).write_text(study_id, encoding="ascii")
        self._uploader = Uploader(self._spool, open_store=self._open_store)
        self._steps: dict[str, int] = {}
        self._ended: set[str] = set()
        self._front: list[str] | None = None
        self._begun = _now()
        self._until: int | None = None
        self._recall()
        self._again = from_start

    def run_id(self, trial_id: str) -> str | None:
        """Return the id of a trial's run once MLflow gave one."""
        return self._run_id(trial_id)

    def start(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Open or find the parent run and log the study's settings in it."""
        self._put("study", params=params, tags=tags)
        self._uploader.start()

    def measured(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Add numbers to runs of trials that ended, by trial; the runs stay closed. In place of `start`."""
        for trial_id, values in metrics.items():
            self._put("measured", trial=trial_id, metrics=values)
        self._uploader.start()

    def dataset(self, *, name: str, digest: str, source: str, profile: Mapping[str, Any]) -> None:
        """Log the data set: its name, hash, where it comes from, and counts."""
        self._put("dataset", name=name, digest=digest, source=source, profile=profile)

    def trial_started(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Open or find a trial's run."""
        self._put("start", trial=trial_id, params=params, tags=tags)

    def trial_reported(self, trial_id: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Log an epoch's numbers at the step `epoch`; an epoch that was reported before is left out."""
        if epoch > self._steps.get(trial_id, 0):
            self._steps[trial_id] = epoch
            self._put("epoch", trial=trial_id, step=epoch, metrics=metrics)

    def trial_ended(self, row: Mapping[str, Any]) -> None:
        """Log a trial's result row, its per-example outcomes and its traceback, and close its run."""
        self._ended.add(row["trial_id"])
        self._put("end", row=row)

    def settle(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Close the runs of trials whose rows are on disk though no end was handed over: their driver died."""
        for row in rows:
            if row["trial_id"] not in self._ended:
                self._ended.add(row["trial_id"])
                begun, ended = span(row) or (_now(), _now())
                self._put("start", trial=row["trial_id"], params=params(row), tags=tags(row), begun=begun)
                self._put("end", row=row, ended=ended)

    def front(self, trial_ids: Iterable[str]) -> None:
        """Tag the front's members `on_front=true`, and nobody else; nothing to do where they are as before.

        A study beneath another, of new seeds, has no front of its own.
        """
        members = sorted(trial_ids)
        if members != self._front and self._parent_study_id is None:
            self._front = members
            self._put("front", trials=members)

    def study_reported(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the study's own progress on the parent run; `step` counts finished trials."""
        self._put("progress", step=step, metrics=metrics)

    def artifacts(self, paths: Iterable[Path], folder: str, *, trial_id: str = STUDY) -> None:
        """Upload files to a folder of the parent run, or of a trial's."""
        for path in paths:
            self._put("artifact", trial=trial_id, path=self._inside(path), folder=folder)

    def model(self, trial_id: str, folder: Path) -> None:
        """Upload a folder that holds an MLflow model as the model of a trial's run."""
        self._put("model", trial=trial_id, path=self._inside(folder))

    def close(self, status: str | None, *, reason: str | None = None, timeout: float = FLUSH_SECONDS) -> str | None:
        """Close the parent run and what is open of the trials', send everything, and read it back.

        Args:
            status: MLflow's run status: `FINISHED`, `FAILED` or `KILLED`; None leaves the runs open and reads nothing
                back, because another driver goes on in them.
            reason: Why a study is closed that is not finished.
            timeout: Longest wait in seconds; a store that does not answer is given up earlier.

        Returns:
            What tracking lacks, or None when everything was read back as it is on disk.
        """
        if status is not None:
            # sent again, a study still ended when it did
            known = {"time": self._until} if self._again and self._until is not None else {}
            self._put("close", status=status, reason=reason, **known)
        lacking: dict[str, str] = {}

        def read_back(store: Store) -> None:
            if status is not None:
                lacking.update(self._read_back(store))

        try:
            done = self._uploader.finish(timeout=timeout, afterwards=read_back)
            if not done:
                waiting = self._spool.waiting
                late = f"{waiting:,} bytes of updates wait" if waiting else "nothing could be read back"
                return f"{late} in {self._spool.path} ({self._uploader.error or f'no time left after {timeout:g} s'})"
        finally:
            self._spool.close()
        found = [f"{trial}: {problem}" for trial, problem in lacking.items()] + self._uploader.refused
        if len(found) > SHOWN:
            found[SHOWN:] = [f"and {len(found) - SHOWN} more"]
        return "; ".join(found) or None

    def _read_back(self, store: Store) -> dict[str, str]:
        """Compare the runs with the rows on disk, send again what lacks, and return what still does."""
        from study.tracking.verify import ARTIFACTS, missing, rows_on_disk

        options: dict[str, Any] = {"study_id": self._study_id, "front": self._front}
        lacking = missing(store, self._dir, **options)
        if lacking:
            store = self._open_store()
            broken = [row for row in rows_on_disk(self._dir) if row["trial_id"] in lacking]
            unattached = {trial for trial, text in lacking.items() if text.startswith(ARTIFACTS)}
            store.repair(broken, unattached=unattached, front=self._front)
            self._uploader.refused += store.refused
            lacking = missing(store, self._dir, **options)
            if lacking and store.artifact_error:
                lacking = {"artifact store": store.artifact_error, **lacking}
        return lacking

    def _open_store(self) -> Store:
        from study.tracking.store import Store

        return Store(
            uri=self.uri,
            experiment=self.experiment,
            study=self._study,
            study_id=self._study_id,
            study_dir=self._dir,
            begun=self._begun,
            parent_study_id=self._parent_study_id,
        )

    def _goes_elsewhere(self) -> bool:
        """Note where updates go, and return whether those before went to another store or experiment."""
        place = hashlib.sha256(f"{self.uri}\n{self.experiment}".encode()).hexdigest()
        file = self._dir / FOLDER / STORE_FILE
        before = file.read_text(encoding="ascii") if file.exists() else place
        file.write_text(place, encoding="ascii")
        return before != place

    def _recall(self) -> None:
        """Learn from the spool what was handed over before: epochs, ends, the front, and when the study went on."""
        for event in self._spool.events():
            self._begun = min(event["time"], self._begun)
            if event["kind"] == "epoch":
                self._steps[event["trial"]] = max(event["step"], self._steps.get(event["trial"], 0))
            elif event["kind"] == "end":
                self._ended.add(event["row"]["trial_id"])
            elif event["kind"] == "front":
                self._front = event["trials"]
            if event["kind"] in ("epoch", "end", "close"):
                self._until = event.get("ended", event["time"])

    def _inside(self, path: Path) -> str:
        """Return a path as seen from the study's folder, which may be moved before the upload."""
        path, root = path.resolve(), self._dir.resolve()
        return str(path.relative_to(root) if path.is_relative_to(root) else path)

    def _run_id(self, trial_id: str) -> str | None:
        store = self._uploader.store
        run = None if store is None else store.runs.get(trial_id)
        return None if run is None else run.run_id

    def _put(self, kind: str, **event: Any) -> None:
        try:
            self._spool.append({"kind": kind, "time": _now(), **event})
            self._uploader.wake()
        except Exception as error:  # noqa: BLE001 - a full disk costs tracking, not the study
            logger.warning("tracking lost an update: %s", short(error))


def _now() -> int:
    return int(time.time() * 1000)
