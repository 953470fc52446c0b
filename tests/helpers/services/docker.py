"""A Docker daemon of a test's own: what it builds and names never reaches the images of the machine's daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 120
FREE_BYTES = 15e9
"""Room for the image with CUDA's libraries, which are unpacked while their layer is written."""

FOLDER = "/var/tmp"


class DockerError(Exception):
    """The daemon did not start, or a command failed."""


@dataclass(frozen=True)
class Docker:
    """A running daemon.

    Attributes:
        socket: Its socket.
    """

    socket: Path

    def __call__(self, *words: object, seconds: float = 600, cwd: Path | None = None) -> str:
        """Run `docker` with these words; return what it printed on stdout.

        Raises:
            DockerError: It failed.
        """
        return self.run("docker", *words, seconds=seconds, cwd=cwd)

    def run(self, *words: object, seconds: float = 600, cwd: Path | None = None) -> str:
        """Run a program that uses the daemon; see `__call__`."""
        # the builder of every version, which takes a base from the daemon's own images
        settings = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}
        process = subprocess.run(
            [str(word) for word in words],
            env={**os.environ, **settings},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if process.returncode:
            raise DockerError(f"{words}: code {process.returncode}\n{process.stdout[-3000:]}\n{process.stderr[-3000:]}")
        return process.stdout

    def compose(self) -> list[str] | None:
        """Return the words that begin a command of the compose program; None if there is none."""
        try:
            self("compose", "version")
        except DockerError:
            return [program] if (program := shutil.which("docker-compose")) else None
        return ["docker", "compose"]


def missing() -> str | None:
    """Return why no daemon can be started here; None if one can be tried."""
    if os.geteuid() != 0:
        return "a Docker daemon of its own needs root"
    for program in ("docker", "dockerd", "debootstrap"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if shutil.disk_usage(FOLDER).free < FREE_BYTES:
        return f"{FOLDER} has less than {FREE_BYTES / 1e9:.0f} GB free"
    return None


@contextmanager
def docker() -> Iterator[Docker]:
    """Run a daemon for the length of a `with` block, and remove all that it stored.

    It changes nothing in the machine's firewall; builds and containers that need the network use the machine's own.

    Raises:
        DockerError: It does not start; its last line says why.
    """
    with tempfile.TemporaryDirectory(prefix="docker-", dir=FOLDER) as name:
        folder = Path(name)
        daemon = Docker(folder / "socket")
        options = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
        options += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"]
        with open(folder / "log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(["dockerd", f"--host=unix://{daemon.socket}", *options], stderr=log, stdout=log)
        try:
            _wait(daemon, process, folder / "log")
            yield daemon
        finally:
            process.terminate()
            process.wait(timeout=STOP_SECONDS)
            # the daemon leaves its handle of the machine's network
            mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
            for place in reversed([place for place in mounts if place.startswith(f"{folder}/")]):
                subprocess.run(["umount", place], check=True)


def _wait(daemon: Docker, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            daemon("version")
        except DockerError:
            time.sleep(0.5)
        else:
            return
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    raise DockerError(f"dockerd did not start: {lines[-1] if lines else 'it printed nothing'}")
