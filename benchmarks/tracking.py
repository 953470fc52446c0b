"""What tracking costs a study: wall time without it, on SQLite, and on a server; time in the driver's loop per report.

Two processes do a fixed amount of work for each trial, as two workers on two cores would, and hand an epoch's
numbers to a driver loop that tracks them. Tracking competes for the same cores, so what it takes shows in the
wall time. A trial ends with a whole result row and 300 per-example outcomes, which become its run's artifact; both are
on disk before the clock starts, since a study writes them anyway. The variants take turns, a tenth of the trials at a
time, since a machine's speed drifts by more than tracking costs. A server's own processor time is told apart: a team's
server is another machine. Usage:

    python benchmarks/tracking.py [--trials 40] [--seconds 10]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from export import row, write_examples

from analysis.data.results import trial_file, write_rows
from analysis.data.schema import RESULT
from study.tracking.row_mapping import STUDY
from study.tracking.tracker import Tracker

EPOCHS = 10
WORKERS = 2
TURNS = 10
PORT = 5173
NAMES = [f"val_{name}" for name in ("clean_accuracy", "robust_accuracy", "loss", "lipschitz_mean")]
METRICS = ["epoch", "loss", "lr", *NAMES, *(f"part.{number}" for number in range(3))]


@dataclass(frozen=True)
class Cost:
    """What one turn of a variant took, in seconds.

    Attributes:
        wall: From the first trial's start to the last one's end.
        spent: In the driver's loop, of each report.
        processor: Of the driver's process, its uploading thread included.
        after: From the last trial to the read-back's end.
    """

    wall: float
    spent: list[float]
    processor: float = 0.0
    after: float = 0.0


def work(rounds: int) -> int:
    """Keep a core busy for a fixed number of rounds."""
    total = 0
    for number in range(rounds):
        total += number * number % 7
    return total


def rounds_a_second() -> int:
    """Return how many rounds of `work` take a second here, with all workers busy."""
    with multiprocessing.Pool(WORKERS) as pool:
        begun = time.perf_counter()
        pool.map(work, [10_000_000] * WORKERS)
        return int(10_000_000 / (time.perf_counter() - begun))


def worker(trials: range, rounds: int, reports: Queue[Any]) -> None:
    """Work through trials and report every epoch."""
    for trial in trials:
        for epoch in range(1, EPOCHS + 1):
            work(rounds // EPOCHS)
            reports.put((trial, epoch))
    reports.put(None)


def study(tracker: Tracker | None, *, trials: int, rounds: int) -> tuple[float, list[float]]:
    """Return the wall time of the trials, and the seconds each report took in this loop."""
    reports: Queue[Any] = multiprocessing.Queue()
    begun = time.perf_counter()
    parts = [range(first, trials, WORKERS) for first in range(WORKERS)]
    processes = [multiprocessing.Process(target=worker, args=(part, rounds, reports)) for part in parts]
    for process in processes:
        process.start()
    spent: list[float] = []
    left = WORKERS
    while left:
        report = reports.get()
        if report is None:
            left -= 1
            continue
        at = time.perf_counter()
        if tracker is not None:
            hand_over(tracker, *report)
        spent.append(time.perf_counter() - at)
    for process in processes:
        process.join()
    return time.perf_counter() - begun, spent


def hand_over(tracker: Tracker, number: int, epoch: int) -> None:
    """Do what the bookkeeper does at a report."""
    trial = f"{number:05d}"
    if epoch == 1:
        tracker.trial_started(trial, {f"param.{name}": name for name in range(12)}, {"method": "trades"})
    tracker.trial_reported(trial, epoch, dict.fromkeys(METRICS, 0.5) | {"epoch": epoch})
    if epoch == EPOCHS:
        tracker.trial_ended(finished(number))
        tracker.study_reported(number, {"front_size": 1, "hypervolume": 0.5})


def finished(number: int) -> dict[str, Any]:
    """Return a trial's result row."""
    return row(number) | {"status": "completed", "epochs": EPOCHS}


def tracked(folder: Path, uri: str, *, trials: int, rounds: int) -> Cost:
    """Run the study with a tracker whose store is made, as are the trials' results, before the clock starts."""
    folder.mkdir(parents=True)
    for number in range(trials):
        ended = finished(number)
        write_rows(trial_file(folder, ended["trial_id"]), [ended], RESULT)
        write_examples(folder, ended)
    tracker = Tracker(study="bench", study_id=folder.name, study_dir=folder, uri=uri)
    tracker.start({"name": "bench"}, {"study": "bench"})
    while tracker.run_id(STUDY) is None:
        time.sleep(0.1)
    used = time.process_time()
    wall, spent = study(tracker, trials=trials, rounds=rounds)
    used = time.process_time() - used
    begun = time.perf_counter()
    if problem := tracker.close("FINISHED", timeout=300):
        raise RuntimeError(problem)
    return Cost(wall, spent, used, time.perf_counter() - begun)


def processor_seconds(group: int) -> float:
    """Return the processor time of a process group so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[2]) == group else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def start_server(folder: Path) -> subprocess.Popen[bytes]:
    """Start `mlflow server` on SQLite and wait until it answers."""
    options = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/artifacts"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options, "--port", str(PORT), "--workers", "1"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while True:
        if server.poll() is not None:
            raise RuntimeError((folder / "server.log").read_text())
        with suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).close()
            return server
        time.sleep(0.5)


def main() -> None:
    """Run the three variants in turns and print what they cost."""
    parser = argparse.ArgumentParser(description="What tracking costs.")
    parser.add_argument("--trials", type=int, default=40, help="of each variant, a multiple of the turns (10)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a trial, about")
    given = parser.parse_args()
    size: dict[str, Any] = {"trials": given.trials // TURNS, "rounds": int(rounds_a_second() * given.seconds)}
    print(f"{given.trials} trials of about {given.seconds:g} s, {EPOCHS} epochs each, {WORKERS} at a time")
    costs: dict[str, list[Cost]] = {"off": [], "sqlite": [], "server": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        server = start_server(folder)
        try:
            served = processor_seconds(server.pid)
            for turn in range(TURNS):
                costs["off"].append(Cost(*study(None, **size)))
                costs["sqlite"].append(tracked(folder / f"sqlite{turn}", f"sqlite:///{folder}/mlflow.db", **size))
                costs["server"].append(tracked(folder / f"server{turn}", f"http://127.0.0.1:{PORT}", **size))
                print(
                    "  turn", turn + 1, *(f"{name} {cost[-1].wall:.1f} s" for name, cost in costs.items()), flush=True
                )
            served = processor_seconds(server.pid) - served
        finally:
            os.killpg(server.pid, 15)
            server.wait()
    for name, turns in costs.items():
        show(name, turns, off=costs["off"])
    print(f"the server itself used {served:.1f} s of processor time, idle time and start-ups included")


def show(name: str, turns: list[Cost], *, off: list[Cost]) -> None:
    """Print a variant's line."""
    wall, without = sum(turn.wall for turn in turns), sum(turn.wall for turn in off)
    overheads = [100 * (turn.wall / base.wall - 1) for turn, base in zip(turns, off, strict=True)]
    spent = [1e3 * second for turn in turns for second in turn.spent]
    print(
        f"{name:<7} {wall:7.1f} s, {100 * (wall / without - 1):+.1f} % (turns {min(overheads):+.1f} to "
        f"{max(overheads):+.1f} %, median {statistics.median(overheads):+.1f} %); "
        f"per report {statistics.median(spent):.3f} ms, at most {max(spent):.1f} ms; "
        f"{sum(turn.processor for turn in turns):.1f} s of the driver's processor time; "
        f"all sent and read back {max(turn.after for turn in turns):.1f} s after a turn's last trial"
    )


if __name__ == "__main__":
    main()
