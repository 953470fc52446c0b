"""An `mlflow server` for a test, on 127.0.0.1, that can be killed and restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

START_SECONDS = 300


class MlflowServer:
    """A server process.

    Args:
        folder: Folder of artifacts and the log.
        backend: Tracking store, without a password.
        port: Port of 127.0.0.1.
        environment: Added to this process's environment.
        options: Added to the command line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        backend: str,
        port: int,
        environment: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self._log = folder / "mlflow.log"
        self._command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--host", "127.0.0.1",
            "--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "1", *options,
        ]  # fmt: skip
        self._environment = {
            **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
            **(environment or {}),
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            time.sleep(0.3)

    def kill(self) -> None:
        """Send SIGKILL to the server and its workers."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> MlflowServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
