"""A temporary Slurm of one node on this machine, apart from one that is installed here: own files, ports and munge."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.services.ports import free_port
from helpers.services.unprivileged import Unprivileged

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "srun")
START_SECONDS = 60
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY"}

# A job of `low` that is preempted and does not requeue itself is cancelled after two minutes.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=3600
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=20000 Gres=gpu:1
PartitionName=low Nodes=node Default=YES PriorityTier=1 PreemptMode=CANCEL GraceTime=120
PartitionName=high Nodes=node PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str | None:
    """Return why no Slurm can be started here; None if one can."""
    if os.geteuid() != 0:
        return "Slurm's daemons start jobs of other users: needs root"
    absent = [name for name in PROGRAMS if path_of(name) is None]
    return f"Slurm is not installed here: no {', '.join(absent)}" if absent else None


def path_of(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin")


@dataclass
class Slurm:
    """A running Slurm, used as an unprivileged user.

    Attributes:
        user: The user who submits and cancels.
    """

    user: Unprivileged

    def submit(self, folder: Path, *words: object) -> str:
        """Submit a job that starts in `folder`, and return its id."""
        return self.user.run("sbatch", "--parsable", *words, cwd=folder).stdout.strip()

    def show(self, job: str) -> dict[str, str]:
        """Return the fields of `scontrol show job`."""
        return dict(re.findall(r"(\w+)=(\S+)", self.user.run("scontrol", "show", "job", job, "--oneliner").stdout))

    def state(self, job: str) -> str:
        return self.show(job)["JobState"]

    def node(self) -> str:
        """Return the state of the only node, such as IDLE; empty while the controller starts."""
        shown = self.user.run("scontrol", "show", "node", "--oneliner", check=False).stdout
        return "".join(re.findall(r"State=(\S+)", shown))

    def wait(self, job: str, seconds: float = 900) -> dict[str, str]:
        """Wait for a job's end, and return its fields."""
        wait_until(lambda: self.state(job) in ENDED, seconds=seconds)
        return self.show(job)


def wait_until(condition: Callable[[], object], *, seconds: float, message: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message() or f"it did not happen within {seconds} s"
        time.sleep(0.5)


@contextlib.contextmanager
def slurm(user: Unprivileged) -> Iterator[Slurm]:
    """Start munge, the controller and one node, with files in the user's folder; cancel all jobs and end them after."""
    folder = user.folder / "slurm"
    for name in ("", "munge", "state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    config = CONFIG.format(folder=folder, host=host, controller=free_port(), daemon=free_port())
    (folder / "slurm.conf").write_text(config)
    (folder / "gres.conf").write_text("NodeName=node Name=gpu Count=1 File=/dev/null\n")
    key, munge = folder / "munge.key", folder / "munge"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    user.variables["SLURM_CONF"] = str(folder / "slurm.conf")
    files = [f"--{name}-file={munge}/{name}" for name in ("log", "pid", "seed")]
    lines = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}/socket", *files],
        ["slurmctld", "-D", "-i", "-f", str(folder / "slurm.conf")],
        ["slurmd", "-D", "-f", str(folder / "slurm.conf")],
    ]
    started, running = [], Slurm(user)
    try:
        for line in lines:
            with (folder / f"{line[0]}.log").open("wb") as log:
                command = [path_of(line[0]), *line[1:]]
                started.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | user.variables))
            if line[0] == "munged":
                wait_until((munge / "socket").exists, seconds=START_SECONDS, message=lambda: logs(folder))
        wait_until(lambda: running.node() == "IDLE", seconds=START_SECONDS, message=lambda: logs(folder))
        yield running
    finally:
        if len(started) == len(lines):
            user.run("scancel", "--user=nobody", check=False)
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not user.run("squeue", "--noheader", check=False).stdout, seconds=60)
        for daemon in reversed(started):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)


def logs(folder: Path) -> str:
    """Return what the daemons wrote."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.log")))
