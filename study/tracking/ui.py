"""MLflow's UI on 127.0.0.1, opened at a study's run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from study.config.file_urls import default_uri, for_mlflow, missing_file
from study.config.values import is_server
from study.console import notes, quoted, results
from study.errors import UsageError, short
from study.tracking.client import DEFAULT_EXPERIMENT, connect
from study.tracking.row_mapping import CONFIRMS_TAG, STUDY, STUDY_TAG, TRIAL_TAG
from study.tracking.shared_view import HOST, PORT, VIEW_TAG, run_link, view_links
from study.tracking.tracker import known_study_id

START_SECONDS = 120.0


@dataclass(frozen=True)
class Pages:
    """What the UI opens at.

    Attributes:
        uri: The store's tracking URI.
        study: The study's name; empty if the store has no study.
        links: Links by what they show, relative to MLflow's address.
    """

    uri: str
    study: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    def show(self, address: str, /) -> None:
        """Print the links at MLflow's address, and open the study's views in a browser if there is a screen."""
        absolute = {name: f"{address}/{link}" for name, link in self.links.items()}
        results().print(f"MLflow shows the study {self.study} at" if self.study else f"MLflow runs at {address}/")
        for name, link in absolute.items():
            results().print(f"  {name + ':':<7} {link}")
        screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if screen and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ:
            for link in list(absolute.values())[:2]:
                webbrowser.open(link)


def serve(study_dir: Path | None, /, *, port: int | None) -> None:
    """Serve MLflow's UI until Ctrl-C, and print the links to a study's table, charts and run.

    Args:
        study_dir: The study to open; None opens the newest in the store of the working folder.
        port: Port to listen on; None takes 5000, or any free port.

    Raises:
        UsageError: The folder holds no study, the store does not exist or is damaged, or the port is taken.
    """
    pages = _pages(study_dir)
    uri = pages.uri
    if is_server(uri):
        pages.show(uri.rstrip("/"))
        return
    free = _free_port(port)
    console = notes()
    console.print(f"starting MLflow on {HOST}:{free} ...")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", for_mlflow(uri)]
    command += ["--host", HOST, "--port", str(free), "--workers", "1"]
    # without its job runner, which is not needed: two processes, not ten
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # `python -m` would look for modules in the working folder first
    environment = {**os.environ, **settings, "PYTHONSAFEPATH": "1"}
    log = tempfile.TemporaryFile(mode="w+")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    # SIGINT too: a background job of a shell ignores it by default, so `kill -INT` would not stop it
    previous = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _wait_until_up(server, f"http://{HOST}:{free}/health", log=log)
        pages.show(f"http://{HOST}:{free}")
        console.print("stop it with Ctrl-C")
        server.wait()
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _stop(server)


def _pages(study_dir: Path | None) -> Pages:
    """Return the store of a study, or of the working folder, with the links to the study or to the newest one."""
    if study_dir is None:
        uri, experiment_name, query = default_uri(), DEFAULT_EXPERIMENT, f"tags.`{TRIAL_TAG}` = '{STUDY}'"
    else:
        from study.directory.layout import open_config

        config = open_config(study_dir)
        uri = config.tracking.uri or default_uri()
        experiment_name = config.tracking.experiment or DEFAULT_EXPERIMENT
        query = f"tags.`{STUDY_TAG}` = '{known_study_id(study_dir)}' and tags.`{TRIAL_TAG}` = '{STUDY}'"
    if not is_server(uri):
        _require_store(uri, study_dir)
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(experiment_name)
        if experiment is None:
            return Pages(uri)
        runs = client.search_runs([experiment.experiment_id], filter_string=query, order_by=["start_time DESC"])
    except UsageError:
        raise
    except Exception as error:  # MLflow has no common class for errors of a store that cannot be reached
        raise UsageError(f"MLflow at {uri} cannot be read: {short(error)}") from error
    # a confirmation is newer than the study it belongs to
    own = [run for run in runs if study_dir is not None or CONFIRMS_TAG not in run.data.tags]
    if not own:
        return Pages(uri)
    study_id = own[0].data.tags[STUDY_TAG]
    links = {"run": run_link(experiment.experiment_id, own[0].info.run_id)}
    if f"{VIEW_TAG}{study_id}" in experiment.tags:  # not so in a study of an earlier version
        table, charts = view_links(experiment.experiment_id, study_id)
        links = {"table": table, "charts": charts, **links}
    return Pages(uri, own[0].data.tags["study"], links)


def _require_store(uri: str, study_dir: Path | None) -> None:
    database = missing_file(uri)
    if database is not None:
        remedy = "launch a study here first, or give a STUDY_DIR"
        if study_dir is not None:
            remedy = f"create it again with: robust-study sync {quoted(study_dir)}"
        raise UsageError(f"{database} does not exist: {remedy}")


def _free_port(port: int | None) -> int:
    for candidate in [port] if port is not None else [PORT, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UsageError(f"port {port} on {HOST} is taken: choose another --port, or leave it out to get a free one")


def _wait_until_up(server: subprocess.Popen[bytes], url: str, *, log: IO[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            log.seek(0)
            raise UsageError(f"MLflow did not start: {(log.read().strip().splitlines() or ['no message'])[-1]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise UsageError(f"MLflow did not answer within {START_SECONDS:g} s")


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
