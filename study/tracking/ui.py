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
from pathlib import Path
from typing import IO

from study.config.file_urls import default_uri, for_mlflow, missing_file
from study.config.values import is_server
from study.console import notes, quoted, results
from study.errors import UsageError, short
from study.tracking.client import DEFAULT_EXPERIMENT, connect, store_problem
from study.tracking.row_mapping import STUDY, STUDY_TAG, TRIAL_TAG
from study.tracking.tracker import known_study_id

HOST = "127.0.0.1"
PORT = 5000
START_SECONDS = 120.0
_PAGES = "workflowType=machine_learning"
"""Selects MLflow's pages for model training, not those for language models."""


def serve(study_dir: Path | None, /, *, port: int | None) -> None:
    """Serve MLflow's UI until Ctrl-C.

    Args:
        study_dir: The study to open; None opens the store of the working folder.
        port: Port to listen on; None takes 5000, or any free port.

    Raises:
        UsageError: The folder holds no study, the store does not exist or is damaged, or the port is taken.
    """
    uri, page = _target(study_dir)
    if is_server(uri):
        results().print(f"the study is tracked at {uri.rstrip('/')}{page}")
        return
    _require_store(uri, study_dir)
    if (problem := store_problem(uri)) is not None:
        raise UsageError(problem)
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
        results().print(f"MLflow shows the study at http://{HOST}:{free}{page}")
        console.print("stop it with Ctrl-C")
        server.wait()
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _stop(server)


def _target(study_dir: Path | None) -> tuple[str, str]:
    """Return the store's URI and the path of the page to open."""
    if study_dir is None:
        return default_uri(), "/"
    from study.directory.layout import open_config

    config = open_config(study_dir)
    uri = config.tracking.uri or default_uri()
    study_id = known_study_id(study_dir)
    if not is_server(uri):
        _require_store(uri, study_dir)
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(config.tracking.experiment or DEFAULT_EXPERIMENT)
        if experiment is None:
            return uri, "/"
        query = f"tags.`{STUDY_TAG}` = '{study_id}' and tags.`{TRIAL_TAG}` = '{STUDY}'"
        runs = client.search_runs([experiment.experiment_id], filter_string=query, max_results=1)
    except UsageError:
        raise
    except Exception as error:  # MLflow has no common class for errors of a store that cannot be reached
        raise UsageError(f"MLflow at {uri} cannot be read: {short(error)}") from error
    page = f"/#/experiments/{experiment.experiment_id}"
    return uri, f"{page}/runs/{runs[0].info.run_id}?{_PAGES}" if runs else f"{page}?{_PAGES}"


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
