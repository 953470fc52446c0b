"""Tracking for the driver: it hands over events, never waits for MLflow, and sees none of its failures."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config.file_urls import default_uri
from study.config.values import is_server
from study.directory.layout import TRACKING_FOLDER
from study.directory.seed_plan import read_plan
from study.errors import short
from study.tracking.client import DEFAULT_EXPERIMENT
from study.tracking.row_mapping import STUDY, params, tags, trial_times
from study.tracking.shared_view import HOST, PORT, view_links, view_state
from study.tracking.spool import Spool
from study.tracking.uploader import Uploader
from trainables.checkpoints.files import write_text

if TYPE_CHECKING:
    from analysis.fronts.strong_attacks import StrongResult
    from study.config.schema import StudyConfig
    from study.tracking.store import Store

logger = logging.getLogger(__name__)

ID_FILE = "study_id"
STORE_FILE = "store"
"""File with a digest of the store's address, which may hold a password."""
FLUSH_SECONDS = 60.0
MAX_PROBLEMS = 5
"""Most problems that a message lists."""


def known_study_id(study_dir: Path, /) -> str | None:
    """Return the id by which a study's runs are found; None if it was never tracked."""
    try:
        return (study_dir / TRACKING_FOLDER / ID_FILE).read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def open_tracker(config: StudyConfig, study_dir: Path, /, *, study_id: str, from_start: bool = False) -> Tracker:
    """Return the `Tracker` of a study; that of a confirmation is nested under the study it confirms.

    Raises:
        UsageError: Another process tracks this study, or its seed plan is damaged.
    """
    plan = read_plan(study_dir)
    return Tracker(
        study=config.name,
        study_id=study_id,
        study_dir=study_dir,
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        from_start=from_start,
        parent_study_id=None if plan is None else plan.parent_study_id,
    )


class Tracker:
    """One parent run for a study, one child run for each trial.

    Every public method but `close` only appends to the study's spool, which takes microseconds; a thread sends it.
    Runs are found by their tags, so a resumed study continues in the same runs.

    Args:
        study: The study's name, also the parent run's.
        study_id: Identifies the study, independent of its name and folder.
        study_dir: The study's folder.
        uri: Tracking URI; None is SQLite in the working folder.
        experiment: Experiment name; None is `robust-study`.
        from_start: Send the whole spool again; what has arrived is recognised. This always happens when the store is
            another than before.
        parent_study_id: Id of the study that this one confirms; None for any other.

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
        store_changed = self._store_changed()
        if from_start or store_changed:
            self._spool.uploaded(0)
        write_text(study_dir / TRACKING_FOLDER / ID_FILE, study_id)
        self._uploader = Uploader(self._spool, open_store=self._open_store)
        self._steps: dict[str, int] = {}
        self._ended: set[str] = set()
        self._front: list[str] | None = None
        self._started = _now()
        self._last_activity: int | None = None
        self._replay()
        self._from_start = from_start
        self._on_open: Callable[[str, str], None] | None = None

    def run_id(self, trial_id: str) -> str | None:
        """Return the id of a trial's run; None until MLflow has assigned one."""
        store = self._uploader.store
        run = None if store is None else store.runs.get(trial_id)
        return None if run is None else run.run_id

    def start(
        self, params: Mapping[str, Any], tags: Mapping[str, Any], *, on_open: Callable[[str, str], None] | None = None
    ) -> None:
        """Start sending; create or reopen the parent run and log the study's settings.

        `on_open` is called once, in the sending thread, with the links to the study's table and charts: at the server,
        or else where `robust-study ui` serves the store.
        """
        self._on_open = on_open
        self._append("study", params=params, tags=tags)
        self._uploader.start()

    def measured(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Add metrics by trial to runs that have ended and stay closed; called in place of `start`."""
        for trial_id, values in metrics.items():
            self._append("measured", trial=trial_id, metrics=values)
        self._uploader.start()

    def attacked(self, strong: Mapping[str, StrongResult]) -> None:
        """Add what strong attacks leave of trials, whose runs stay as they are: metrics, and the tag `doubts`."""
        for trial_id, result in strong.items():
            metrics = {"val_robust_accuracy_strong": result.robust, "val_robust_accuracy_strong_fall": result.fall}
            tags = {"doubts": ", ".join(result.doubts) or None}
            self._append("measured", trial=trial_id, metrics=metrics, tags=tags)

    def dataset(self, *, name: str, digest: str, source: str, profile: Mapping[str, Any]) -> None:
        """Log the data set: its name, hash, source and counts."""
        self._append("dataset", name=name, digest=digest, source=source, profile=profile)

    def trial_started(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Create or reopen a trial's run."""
        self._append("start", trial=trial_id, params=params, tags=tags)

    def trial_reported(self, trial_id: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Log an epoch's metrics at step `epoch`, unless the epoch was reported before."""
        if epoch > self._steps.get(trial_id, 0):
            self._steps[trial_id] = epoch
            self._append("epoch", trial=trial_id, step=epoch, metrics=metrics)

    def trial_ended(self, row: Mapping[str, Any]) -> None:
        """Log a trial's result row, its per-example outcomes and its traceback, and close its run."""
        self._ended.add(row["trial_id"])
        self._append("end", row=row)

    def settle(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Close the runs of trials whose end was never reported, though their rows are on disk: the driver died."""
        for row in rows:
            if row["trial_id"] not in self._ended:
                self._ended.add(row["trial_id"])
                started, ended = trial_times(row) or (_now(), _now())
                self._append("start", trial=row["trial_id"], params=params(row), tags=tags(row), begun=started)
                self._append("end", row=row, ended=ended)

    def front(self, trial_ids: Iterable[str]) -> None:
        """Tag the front's members, and no other run, `on_front=true`; do nothing if the front has not changed.

        A confirmation has no front of its own.
        """
        members = sorted(trial_ids)
        if members != self._front and self._parent_study_id is None:
            self._front = members
            self._append("front", trials=members)

    def view(self, settings: Sequence[str]) -> None:
        """Write the view that MLflow's runs page opens in; `settings` are the parameters that all trials have."""
        state = view_state(study=self._study, study_id=self._study_id, settings=settings)
        self._append("view", state=state)

    def note(self, text: str) -> None:
        """Write the description on the parent run's page, in Markdown, unless a user has edited it."""
        self._append("note", text=text)

    def study_reported(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the study's own progress on the parent run; `step` counts finished trials."""
        self._append("progress", step=step, metrics=metrics)

    def artifacts(self, paths: Iterable[Path], folder: str, *, trial_id: str = STUDY) -> None:
        """Upload files to an artifact folder of the parent run, or of a trial's."""
        for path in paths:
            self._append("artifact", trial=trial_id, path=self._relative(path), folder=folder)

    def model(self, trial_id: str, folder: Path) -> None:
        """Upload an MLflow model, saved in a folder, as the model of a trial's run."""
        self._append("model", trial=trial_id, path=self._relative(folder))

    def close(self, status: str | None, *, reason: str | None = None, timeout: float = FLUSH_SECONDS) -> str | None:
        """Close the parent run and any open run of a trial, send everything, and read it back.

        Args:
            status: MLflow's run status: `FINISHED`, `FAILED` or `KILLED`; None leaves the runs open for the next driver
                and reads nothing back.
            reason: Why the study is closed before it is finished.
            timeout: Longest wait in seconds; shorter for a store that does not answer.

        Returns:
            What MLflow is missing, or None when everything was read back as it is on disk.
        """
        if status is not None:
            # a study that is sent again keeps the time of its end
            end = {"time": self._last_activity} if self._from_start and self._last_activity is not None else {}
            self._append("close", status=status, reason=reason, **end)
        problems: dict[str, str] = {}

        def read_back(store: Store) -> None:
            if status is not None:
                problems.update(self._read_back(store))

        try:
            done = self._uploader.finish(timeout=timeout, afterwards=read_back)
            if not done:
                error = self._uploader.error or f"timed out after {timeout:g} s"
                if waiting := self._spool.waiting:
                    return f"{waiting:,} bytes of updates, waiting in {self._spool.path} ({error})"
                return f"unknown, nothing was read back ({error})"
        finally:
            self._spool.close()
        lines = [f"{trial}: {problem}" for trial, problem in problems.items()] + self._uploader.refused
        if len(lines) > MAX_PROBLEMS:
            lines[MAX_PROBLEMS:] = [f"and {len(lines) - MAX_PROBLEMS} more"]
        return "; ".join(lines) or None

    def _read_back(self, store: Store) -> dict[str, str]:
        """Compare the runs with the rows on disk, send again what is missing, and return what is still missing."""
        from study.tracking.verify import ARTIFACTS, missing, rows_on_disk

        options: dict[str, Any] = {"study_id": self._study_id, "front": self._front}
        problems = missing(store, self._dir, **options)
        if problems:
            store = self._open_store()
            rows = [row for row in rows_on_disk(self._dir) if row["trial_id"] in problems]
            unattached = {trial for trial, text in problems.items() if text.startswith(ARTIFACTS)}
            store.repair(rows, unattached=unattached, front=self._front)
            self._uploader.refused += store.refused
            problems = missing(store, self._dir, **options)
            if problems and store.artifact_error:
                problems = {"artifact store": store.artifact_error, **problems}
        return problems

    def _open_store(self) -> Store:
        from study.tracking.store import Store

        store = Store(
            uri=self.uri,
            experiment=self.experiment,
            study=self._study,
            study_id=self._study_id,
            study_dir=self._dir,
            started=self._started,
            parent_study_id=self._parent_study_id,
        )
        if self._on_open is not None:
            address = self.uri.rstrip("/") if is_server(self.uri) else f"http://{HOST}:{PORT}"
            table, charts = view_links(store.experiment_id, self._study_id)
            self._on_open(f"{address}/{table}", f"{address}/{charts}")
            self._on_open = None
        return store

    def _store_changed(self) -> bool:
        """Record the store and experiment; return whether earlier updates went to another."""
        digest = hashlib.sha256(f"{self.uri}\n{self.experiment}".encode()).hexdigest()
        file = self._dir / TRACKING_FOLDER / STORE_FILE
        before = file.read_text(encoding="ascii") if file.exists() else digest
        write_text(file, digest)
        return before != digest

    def _replay(self) -> None:
        """Restore the state from the spool: epochs, ended trials, the front, the study's start and last activity."""
        for event in self._spool.events():
            self._started = min(event["time"], self._started)
            if event["kind"] == "epoch":
                self._steps[event["trial"]] = max(event["step"], self._steps.get(event["trial"], 0))
            elif event["kind"] == "end":
                self._ended.add(event["row"]["trial_id"])
            elif event["kind"] == "front":
                self._front = event["trials"]
            if event["kind"] in ("epoch", "end", "close"):
                self._last_activity = event.get("ended", event["time"])

    def _relative(self, path: Path) -> str:
        """Return a path relative to the study's folder, which may be moved before the upload."""
        path, root = path.resolve(), self._dir.resolve()
        return str(path.relative_to(root) if path.is_relative_to(root) else path)

    def _append(self, kind: str, **event: Any) -> None:
        try:
            self._spool.append({"kind": kind, "time": _now(), **event})
            self._uploader.wake()
        except Exception as error:  # noqa: BLE001 - a full disk must not fail the study
            logger.warning("tracking lost an update: %s", short(error))


def _now() -> int:
    return int(time.time() * 1000)
