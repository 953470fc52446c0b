"""The batch script with stand-ins for Slurm, Ray and the study, which write what they are asked to a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import study.cluster

SCRIPT = resources.files(study.cluster) / "templates" / "slurm.sbatch"
TEXT = SCRIPT.read_text(encoding="utf-8")
# Ray's folders in /tmp are named by it
JOB = 1_000_000 + os.getpid()
BASE = 10000 + JOB % 88 * 256
HEAD = f"10.0.0.7:{BASE}"

FAKES = {
    # a step is a group of processes, named by its number, to which scancel sends the signal
    "srun": """
while [[ $1 == --* ]]; do options+=" $1"; shift; done
until mkdir "$BOX/steps/${step:=0}" 2>/dev/null; do step=$((step + 1)); done
echo "srun$options" >>"$LOG"
SLURM_STEP_ID=$step setsid "$@" &
echo $! >"$BOX/steps/$step/pid"
wait $!""",
    "scancel": """
step=${2#*.}
[[ -f $BOX/steps/$step/pid ]] || exit 1
echo "scancel $1 step $step" >>"$LOG"
kill "${1/--signal=/-}" -- "-$(cat "$BOX/steps/$step/pid")" """,
    # a node has joined while its Ray runs
    "ray": """
echo "$@" >>"$LOG"
for option; do [[ $option == --temp-dir=* ]] && logs=${option#*=}/session_latest/logs; done
mkdir -p "$logs" && echo "port in use" >"$logs/raylet.out"
[[ $* == *--address=* && -f $BOX/no-workers || $* == *--head* && -f $BOX/no-head ]] && exit 1
trap 'echo "step $SLURM_STEP_ID: ended" >>"$LOG"; rm -f "$BOX/nodes/$SLURM_STEP_ID"; exit 1' TERM
touch "$BOX/nodes/$SLURM_STEP_ID"
for i in $(seq 600); do sleep 0.1; done""",
    "python": """
case "$2" in
    *ray.init*)
        [[ -f $BOX/no-answer ]] && exit 1
        count=$(ls "$BOX/nodes" | wc -l); echo "barrier $3 $count" >>"$LOG"; echo "$count" ;;
    *yaml*) exec "$PYTHON" "$@" ;;
    *grpc*) [[ -f $BOX/grpc ]] ;;
    *) echo a-token ;;
esac""",
    "scontrol": 'if [[ $1 == show ]]; then printf "node1\\nnode2\\n"; else echo "scontrol $*" >>"$LOG"; fi',
    "squeue": 'cat "$BOX/state" 2>/dev/null',
    # the script's own waits are seconds long
    "sleep": "exec /bin/sleep 0.02",
    "hostname": "echo 10.0.0.7 172.17.0.1",
    # the line that tests wait for is logged last, once the folder exists and the signal handler is set
    "robust-study": """
[[ $1 == status ]] && exec cat "$BOX/status"
trap 'echo "study: finishing" >>"$LOG"; exit 143' TERM
[[ $1 == launch ]] && mkdir -p studies/small/results && echo name: small >studies/small/study.yaml
[[ -f $BOX/progress ]] && touch studies/small/results/00000.parquet
echo "robust-study $* at $RAY_ADDRESS" >>"$LOG"
[[ -f $BOX/code ]] && exit "$(cat "$BOX/code")"
for i in $(seq 600); do sleep 0.1; done""",
}


class Batch:
    """A job of two nodes in a folder of its own.

    Args:
        folder: Its working folder, which is also the user's home.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "steps", "nodes", ".venv/bin"):
            (folder / name).mkdir(parents=True)
        for name, code in FAKES.items():
            (folder / "bin" / name).write_text(f"#!/bin/bash\n{code}\n")
            (folder / "bin" / name).chmod(0o755)
        (folder / ".venv" / "bin" / "activate").touch()
        (folder / "study.yaml").write_text("name: small\n")
        (folder / "state").write_text("RUNNING\n")
        (folder / "status").write_text('{\n  "completed": 0,\n  "left": 4,\n}\n')
        self.script = SCRIPT
        settings = {
            "ENVIRONMENT": "BATCH",
            "SLURM_JOB_ID": str(JOB),
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_GPUS_ON_NODE": "2",
            "HOME": str(folder),
            "BOX": str(folder),
            "PYTHON": sys.executable,
            "LOG": str(folder / "log"),
            "PATH": f"{folder}/bin:/usr/bin:/bin",
        }
        self.environment = os.environ | settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def lines(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def messages(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def token(self) -> Path:
        return self.folder / f".ray-token-{JOB}"

    def start(self, *words: str) -> None:
        with (self.folder / "stderr").open("wb") as stderr, (self.folder / "stdout").open("wb") as stdout:
            line = ["bash", str(self.script), *(words or ["study.yaml"])]
            streams = {"stdout": stdout, "stderr": stderr}
            self.process = subprocess.Popen(line, cwd=self.folder, env=self.environment, **streams)

    def start_study(self, *words: str) -> None:
        self.start(*words)
        wait_for(lambda: any(line.startswith("robust-study") for line in self.lines))

    def end(self) -> int:
        """Wait for the script, check that nothing stays behind, and return its exit code."""
        assert self.process is not None
        code = self.process.wait(timeout=40)
        assert not self.token.exists()
        assert not any(self.folder.joinpath("nodes").iterdir())
        assert not list(Path("/tmp").glob(f"ray-{JOB}.*"))
        return code

    def end_step(self, number: int) -> None:
        """Send SIGTERM to all processes of a step, as Slurm does."""
        os.killpg(int((self.folder / "steps" / str(number) / "pid").read_text()), signal.SIGTERM)


def wait_for(condition: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
