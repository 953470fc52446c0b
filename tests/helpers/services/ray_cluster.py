"""A Ray cluster of several nodes on this machine: each node a tree of processes, which can be killed or frozen."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).with_name("ray_node.py")
OBJECT_STORE_BYTES = 80_000_000
START_SECONDS = 180

# A frozen node is given up within seconds, not a minute, and a slow one is not.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(root: int) -> set[int]:
    """Return a process and everything that descends from it."""
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
        name: What the rows of its trials say as `host`, where this machine lets a process have a host name of its own.
        line: The command that starts it.
        log: What it says.
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
        """Send a signal to every process of the node at once: a machine does not die piece by piece."""
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGSTOP)  # nobody starts a process while the others are being found
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def wait(self) -> None:
        """Wait until it has joined; start it again when it gave up, as it does on a machine that is very busy."""
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in (said := self.log.read_text(errors="replace")):
            assert time.monotonic() < deadline, said
            if self.process.poll() is not None:
                self.start()
            time.sleep(0.1)


@dataclass
class Cluster:
    """A head without CPUs and nodes that run trials.

    Attributes:
        folder: Logs and temporary folders, short enough for Ray's sockets.
        port: The head's.
        environment: What every process of the cluster, its driver too, must have in common.
        nodes: The head first.
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
        """What a driver needs to listen on the loopback address alone, as the nodes do."""
        return self.environment | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

    def add(self, name: str, *options: str) -> Node:
        """Start a node; the head when it is the first."""
        head = ["--head", "--port", str(self.port), "--include-dashboard", "false", "--include-log-monitor", "false"]
        where = ["--address", self.address] if self.nodes else head
        line = [
            *own_host_name(name), sys.executable, str(LAUNCHER), "start", "--block", *where,
            "--node-ip-address", "127.0.0.1", "--temp-dir", str(self.folder / name),
            "--object-store-memory", str(OBJECT_STORE_BYTES), "--dashboard-agent-listen-port", str(free_port()),
            "--disable-usage-stats", *options,
        ]  # fmt: skip
        self.nodes.append(Node(name, line, self.folder / f"{name}.log", self.environment))
        return self.nodes[-1]


def own_host_name(name: str) -> list[str]:
    """Return what makes a command see `name` as the host; nothing where this machine does not allow it."""
    line = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
    allowed = shutil.which("unshare") and subprocess.run([*line, "true"], capture_output=True, check=False)
    return line if allowed and allowed.returncode == 0 else []


@contextlib.contextmanager
def cluster(nodes: int, *options: str, impatient: bool = False) -> Iterator[Cluster]:
    """Start a head without CPUs and `nodes` others named node-1, node-2 and so on; end them all afterwards.

    Args:
        nodes: How many run trials.
        options: Of `ray start` for each of them, such as `--num-gpus`.
        impatient: Give up a node that does not answer within seconds. A killed one is noticed anyway.
    """
    if shlex.quote(sys.executable) != sys.executable:
        pytest.skip(f"Ray's nodes start no worker from a path that a shell must quote: {sys.executable}")
    folder = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    environment = os.environ | (HEALTH if impatient else {})
    # a session of this very process keeps Ray on one machine, which `ray start` would inherit
    environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    made = Cluster(folder, free_port(), environment)
    try:
        made.add("head", "--num-cpus", "0", "--num-gpus", "0")
        made.nodes[0].wait()
        for number in range(1, nodes + 1):
            made.add(f"node-{number}", *options)
        for node in made.nodes[1:]:
            node.wait()
        yield made
    finally:
        for node in made.nodes:
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)
