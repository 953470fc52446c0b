"""A Ray cluster of several nodes on this machine; each node is a tree of processes that can be killed or frozen."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.services.ports import free_port

LAUNCHER = Path(__file__).with_name("ray_node.py")
OBJECT_STORE_BYTES = 80_000_000
START_SECONDS = 180

# Ray declares a frozen node dead within seconds instead of a minute, but not a slow one.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}


def descendants(root: int) -> set[int]:
    """Return a process and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return family


@dataclass
class Node:
    """One node of the cluster.

    Attributes:
        name: Its host name, and the `host` in rows of its trials, if this machine allows processes their own.
        line: The command that starts it.
        log: File of its output.
        environment: Its environment.
        process: Its `ray start --block`.
    """

    name: str
    line: list[str]
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.line, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def signal(self, number: int) -> None:
        """Send a signal to every process of the node, as all of a machine fails together."""
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGSTOP)  # so that none starts another process meanwhile
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def wait(self) -> None:
        """Wait until it has joined; restart it if it exits, as happens on a very busy machine."""
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in (output := self.log.read_text(errors="replace")):
            assert time.monotonic() < deadline, output
            if self.process.poll() is not None:
                self.start()
            time.sleep(0.1)


@dataclass
class Cluster:
    """A head and nodes that run trials.

    Attributes:
        folder: Folder of logs and temporary files, with a path short enough for Ray's sockets.
        port: Port of the head.
        environment: Environment that all processes of the cluster, including its driver, share.
        nodes: The nodes, the head first.
    """

    folder: Path
    port: int
    environment: dict[str, str]
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def driver_environment(self) -> dict[str, str]:
        """The environment of a driver that listens on the loopback address only, as the nodes do."""
        return self.environment | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

    def add(self, name: str, *options: str) -> Node:
        """Start a node; the first one is the head."""
        head = ["--head", "--port", str(self.port), "--include-dashboard", "false", "--include-log-monitor", "false"]
        role = ["--address", self.address] if self.nodes else head
        line = [
            *with_host_name(name), sys.executable, str(LAUNCHER), "start", "--block", *role,
            "--node-ip-address", "127.0.0.1", "--temp-dir", str(self.folder / name),
            "--object-store-memory", str(OBJECT_STORE_BYTES), "--dashboard-agent-listen-port", str(free_port()),
            "--disable-usage-stats", *options,
        ]  # fmt: skip
        self.nodes.append(Node(name, line, self.folder / f"{name}.log", self.environment))
        return self.nodes[-1]


def with_host_name(name: str) -> list[str]:
    """Return a prefix with which a command sees `name` as its host; empty if this machine does not allow it."""
    line = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
    allowed = shutil.which("unshare") and subprocess.run([*line, "true"], capture_output=True, check=False)
    return line if allowed and allowed.returncode == 0 else []


@contextlib.contextmanager
def cluster(
    nodes: int,
    *options: str,
    head: Sequence[str] = ("--num-cpus", "0", "--num-gpus", "0"),
    impatient: bool = False,
) -> Iterator[Cluster]:
    """Start a head and `nodes` others named node-1, node-2 and so on; stop them all afterwards.

    Args:
        nodes: Number of nodes beside the head.
        options: Of `ray start` for each of them, such as `--num-gpus`.
        head: Those for the head, which by default runs no trials.
        impatient: Declare a node dead after seconds without an answer. A killed node is noticed in any case.
    """
    if shlex.quote(sys.executable) != sys.executable:
        pytest.skip(f"Ray's nodes cannot start a worker from a path that needs shell quotes: {sys.executable}")
    folder = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    environment = os.environ | (HEALTH if impatient else {})
    # a Ray session of this process restricts Ray to one machine, which `ray start` would inherit
    environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    started = Cluster(folder, free_port(), environment)
    try:
        started.add("head", *head)
        started.nodes[0].wait()
        for number in range(1, nodes + 1):
            started.add(f"node-{number}", *options)
        for node in started.nodes[1:]:
            node.wait()
        yield started
    finally:
        for node in started.nodes:
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)
