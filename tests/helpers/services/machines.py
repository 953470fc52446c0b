"""Machines of a network on this one: each has its own addresses, processes, host name, /dev/shm and Ray session.

They share the file system otherwise. Linux's namespaces make them, which needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from helpers.services.ray_cluster import descendants

PROGRAMS = ("ip", "unshare", "nsenter", "iptables")
START_SECONDS = 180
HEAD_PORT = 6379

# `ray start` in a machine: no dashboard, which takes seconds and memory.
START = "import sys; from ray.scripts.scripts import main; sys.exit(main())"

INIT = """
mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs /dev/shm
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && hostname "$0" && ip link set lo up
echo ready && exec sleep infinity
"""


def missing() -> str | None:
    """Return why there can be no such machines here, or None."""
    if os.geteuid() != 0:
        return "separate machines need root, for namespaces"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"separate machines need {', '.join(absent)}"
    rules = ["unshare", "--net", "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "1:2", "-j", "DROP"]
    tried = subprocess.run(rules, capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"separate machines need iptables: {tried.stderr.strip()}"


@dataclass
class Machine:
    """One machine.

    Attributes:
        name: Its host name.
        address: Its IP address.
        init: The process, as seen from outside, whose end ends all of the machine's.
        environment: Environment of the processes that are started on it.
    """

    name: str
    address: str
    init: int
    environment: dict[str, str]

    def prefix(self, folder: Path | str = "/") -> list[str]:
        """Return the words before a command that run it on this machine, in a folder."""
        spaces = ["--net", "--pid", "--mount", "--uts", "--ipc"]
        return ["nsenter", "--target", str(self.init), *spaces, f"--wd={folder}", "--"]

    def call(self, *words: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine and wait for its end."""
        settings = {"env": self.environment, "capture_output": True, "text": True, "timeout": 400, **options}
        result = subprocess.run([*self.prefix(), *words], check=False, **settings)  # type: ignore[call-overload]
        assert result.returncode == 0 or not check, result.stdout + result.stderr
        return result  # type: ignore[no-any-return]

    def start_ray(self, *options: str, head: str | None = None) -> None:
        """Start a node of the cluster at address `head`, or the head itself."""
        role = ["--head", "--port", str(HEAD_PORT)] if head is None else ["--address", f"{head}:{HEAD_PORT}"]
        limits = ["--object-store-memory", "80000000", "--disable-usage-stats", "--node-ip-address", self.address]
        quiet = ["--include-dashboard", "false"] if head is None else []
        self.call(sys.executable, "-c", START, "start", *role, *limits, *quiet, *options, timeout=START_SECONDS)

    def processes(self) -> set[int]:
        """Return the ids, as seen from outside, of its processes."""
        space = os.readlink(f"/proc/{self.init}/ns/pid")
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/pid") == space:
                    found.add(int(folder.name))
        return found

    def signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to a command that was started with `prefix`; `process` itself stays outside."""
        for pid in self.processes() & descendants(process.pid):
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == process.pid:
                os.kill(pid, number)

    def freeze(self) -> None:
        """Stop every process of it, as on a machine that hangs."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def kill(self) -> None:
        """End all of its processes, as when the power fails."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)

    def close(self, ports: str) -> None:
        """Drop what other machines send to its TCP ports FIRST:LAST, as a firewall does."""
        self.call("iptables", "-A", "INPUT", "-i", "eth0", "-p", "tcp", "--dport", ports, "-j", "DROP")

    def open(self) -> None:
        """Take back what `close` did."""
        self.call("iptables", "-F", "INPUT")


class Network:
    """A network to which machines can be added at any time.

    Args:
        environment: Added to the environment of all processes on its machines.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._tag = f"rs{os.getpid() % 100_000}"
        self._environment = os.environ | environment
        self._subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self._inits: list[subprocess.Popen[str]] = []
        self.machines: list[Machine] = []
        _ip("link", "add", self._tag, "type", "bridge")
        _ip("link", "set", self._tag, "up")

    def add(self, name: str) -> Machine:
        """Add a machine."""
        number = len(self.machines) + 1
        space, outer = f"{self._tag}-{number}", f"{self._tag}v{number}"
        _ip("netns", "add", space)
        _ip("link", "add", outer, "master", self._tag, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", outer, "up")
        address = f"{self._subnet}.{number}"
        _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        # the address by which a machine finds its own is asked for by a route to anywhere
        _ip("-n", space, "route", "add", "default", "dev", "eth0")
        spaces = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child"]
        line = ["ip", "netns", "exec", space, *spaces, "sh", "-c", INIT, name]
        init = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._inits.append(init)
        assert init.stdout is not None
        assert init.stdout.readline() == "ready\n"
        (inner,) = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()
        self.machines.append(Machine(name, address, int(inner), self._environment))
        return self.machines[-1]

    def remove(self) -> None:
        """End every process of every machine, and remove the network."""
        for machine, init in zip(self.machines, self._inits, strict=True):
            machine.kill()
            init.wait(30)
        for number in range(1, len(self.machines) + 1):
            subprocess.run(["ip", "netns", "delete", f"{self._tag}-{number}"], check=False)
        subprocess.run(["ip", "link", "delete", self._tag], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def network(**environment: str) -> Iterator[Network]:
    """Make a network for the length of a `with` block."""
    made = Network(environment)
    try:
        yield made
    finally:
        made.remove()
