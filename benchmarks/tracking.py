"""The cost of tracking: wall time without it, with SQLite and with a server, and time per report in the driver's loop.

Two processes do a fixed amount of work for each trial, as two workers on two cores would, and report each epoch to a
driver loop that tracks it. Tracking competes for the same cores, so its cost shows in the wall time. A trial ends with
a complete result row and 300 per-example outcomes, which become its run's artifact; both are on disk before the clock
starts, because a study writes them without tracking too. The variants alternate, with a tenth of the trials in each
round, because a machine's speed drifts by more than the cost of tracking. A server's CPU time is reported separately:
a team's server is another machine. Usage:

    python benchmarks/tracking.py [--trials 40] [--seconds 10] [--export 1000]

Then the time of `robust-study export --mlflow`: runs that the store wrote are rebuilt from MLflow alone.
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

from analysis.data.results import read_results, trial_file, write_rows
from analysis.data.schema import EXAMPLE, RESULT
from study.tracking.export import export
from study.tracking.row_mapping import STUDY
from study.tracking.store import Store
from study.tracking.tracker import Tracker

EPOCHS, EXAMPLES = 10, 300
WORKERS = 2
TURNS = 10
PORT = 5173
NAMES = [f"val_{name}" for name in ("clean_accuracy", "robust_accuracy", "loss", "lipschitz_mean")]
METRICS = ["epoch", "loss", "lr", *NAMES, *(f"part.{number}" for number in range(3))]


@dataclass(frozen=True)
class Cost:
    """The times of one round of a variant, in seconds.

    Attributes:
        wall: From the start of the first trial to the end of the last.
        spent: In the driver's loop, for each report.
        cpu: Of the driver's process, including its uploading thread.
        after: From the end of the last trial to the end of the read-back.
    """

    wall: float
    spent: list[float]
    cpu: float = 0.0
    after: float = 0.0


def row(number: int) -> dict[str, Any]:
    """Return a synthetic result row with every measurement."""
    measured = {c.name: 0.5 + number / 7919 for c in RESULT.columns if c.type == "float64"}
    integers = {c.name: 1 for c in RESULT.columns if c.type in ("int32", "int64") and not c.nullable}
    text = {c.name: c.choices[0] if c.choices else "x" for c in RESULT.columns if c.type == "string" and not c.nullable}
    params = {f"param.{name}": 0.1 * number for name in ("beta", "dropout", "lr")}
    identity = {"number": number, "trial_id": f"{number:05d}", "study": "bench", "epochs": 0, "flags": []}
    return measured | integers | text | params | identity


def write_examples(study_dir: Path, result: dict[str, Any]) -> None:
    """Write a trial's per-example outcomes, which become its run's artifact."""
    rows = [
        {
            **{name: result[name] for name in ("study", "trial_id")},
            **{"checkpoint": "last", "split": "val", "attack": "pgd", "epsilon": 0.1, "index": index},
            **{"clean_correct": True, "robust_correct": index % 2 == 0},
        }
        for index in range(EXAMPLES)
    ]
    write_rows(trial_file(study_dir, result["trial_id"], schema=EXAMPLE), rows, EXAMPLE)


def work(rounds: int) -> int:
    """Keep a core busy for a fixed number of rounds."""
    total = 0
    for number in range(rounds):
        total += number * number % 7
    return total


def rounds_per_second() -> int:
    """Return how many rounds of `work` this machine does per second with all workers busy."""
    with multiprocessing.Pool(WORKERS) as pool:
        started = time.perf_counter()
        pool.map(work, [10_000_000] * WORKERS)
        return int(10_000_000 / (time.perf_counter() - started))


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
    started = time.perf_counter()
    parts = [range(first, trials, WORKERS) for first in range(WORKERS)]
    processes = [multiprocessing.Process(target=worker, args=(part, rounds, reports)) for part in parts]
    for process in processes:
        process.start()
    spent: list[float] = []
    running = WORKERS
    while running:
        report = reports.get()
        if report is None:
            running -= 1
            continue
        received = time.perf_counter()
        if tracker is not None:
            track(tracker, *report)
        spent.append(time.perf_counter() - received)
    for process in processes:
        process.join()
    return time.perf_counter() - started, spent


def track(tracker: Tracker, number: int, epoch: int) -> None:
    """Track a report as the driver's callback does."""
    trial = f"{number:05d}"
    if epoch == 1:
        tracker.trial_started(trial, {f"param.{name}": name for name in range(12)}, {"method": "trades"})
    tracker.trial_reported(trial, epoch, dict.fromkeys(METRICS, 0.5) | {"epoch": epoch})
    if epoch == EPOCHS:
        tracker.trial_ended(result_row(number))
        tracker.study_reported(number, {"front_size": 1, "hypervolume": 0.5})


def result_row(number: int) -> dict[str, Any]:
    """Return a trial's result row."""
    return row(number) | {"status": "completed", "epochs": EPOCHS}


def tracked(folder: Path, uri: str, *, trials: int, rounds: int) -> Cost:
    """Run the study with a tracker; its store and the trials' results are written before the clock starts."""
    folder.mkdir(parents=True)
    for number in range(trials):
        result = result_row(number)
        write_rows(trial_file(folder, result["trial_id"]), [result], RESULT)
        write_examples(folder, result)
    tracker = Tracker(study="bench", study_id=folder.name, study_dir=folder, uri=uri)
    tracker.start({"name": "bench"}, {"study": "bench"})
    while tracker.run_id(STUDY) is None:
        time.sleep(0.1)
    started_cpu = time.process_time()
    wall, spent = study(tracker, trials=trials, rounds=rounds)
    cpu = time.process_time() - started_cpu
    ended = time.perf_counter()
    if problem := tracker.close("FINISHED", timeout=300):
        raise RuntimeError(problem)
    return Cost(wall, spent, cpu, time.perf_counter() - ended)


def cpu_seconds(group: int) -> float:
    """Return the CPU time of a process group so far."""
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
    """Measure and print both costs."""
    parser = argparse.ArgumentParser(description="The cost of tracking.")
    parser.add_argument(
        "--trials", type=int, default=40, help="trials of each variant, a multiple of 10 (the rounds), or 0"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="approximate length of a trial")
    parser.add_argument("--export", type=int, default=1000, help="runs that are written and exported")
    options = parser.parse_args()
    if options.trials:
        compare(options)
    export_runs(options.export)


def export_runs(count: int) -> None:
    """Write runs, export them, print the times, and check that every row is restored."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        uri = f"sqlite:///{folder}/mlflow.db"
        rows = [row(number) for number in range(count)]
        for result in rows:
            write_examples(folder / "study", result)
        started = time.perf_counter()
        store = Store(uri=uri, experiment="bench", study="bench", study_id="bench", study_dir=folder / "study")
        store.apply({"kind": "end", "time": 1000 + result["number"], "row": result} for result in rows)
        print(f"{count} runs written in {time.perf_counter() - started:.1f} s; refused: {store.refused or 'none'}")
        started = time.perf_counter()
        export(None, uri=uri, experiment="bench", out=folder / "rows.parquet")
        print(f"exported in {time.perf_counter() - started:.1f} s")
        exported = read_results(folder / "rows.parquet").select(list(rows[0])).to_pylist()
        print("every row is restored" if exported == rows else "rows differ")


def compare(options: argparse.Namespace) -> None:
    """Run the three variants alternately and print their costs."""
    size: dict[str, Any] = {"trials": options.trials // TURNS, "rounds": int(rounds_per_second() * options.seconds)}
    print(f"{options.trials} trials of about {options.seconds:g} s, {EPOCHS} epochs each, {WORKERS} concurrently")
    costs: dict[str, list[Cost]] = {"off": [], "sqlite": [], "server": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        server = start_server(folder)
        try:
            server_cpu = cpu_seconds(server.pid)
            for turn in range(TURNS):
                costs["off"].append(Cost(*study(None, **size)))
                costs["sqlite"].append(tracked(folder / f"sqlite{turn}", f"sqlite:///{folder}/mlflow.db", **size))
                costs["server"].append(tracked(folder / f"server{turn}", f"http://127.0.0.1:{PORT}", **size))
                print(
                    "  round", turn + 1, *(f"{name} {cost[-1].wall:.1f} s" for name, cost in costs.items()), flush=True
                )
            server_cpu = cpu_seconds(server.pid) - server_cpu
        finally:
            os.killpg(server.pid, 15)
            server.wait()
    for name, turns in costs.items():
        show(name, turns, off=costs["off"])
    print(f"the server used {server_cpu:.1f} s of CPU time, including idle time")


def show(name: str, turns: list[Cost], *, off: list[Cost]) -> None:
    """Print the line of a variant."""
    wall, without = sum(turn.wall for turn in turns), sum(turn.wall for turn in off)
    overheads = [100 * (turn.wall / base.wall - 1) for turn, base in zip(turns, off, strict=True)]
    spent = [1e3 * second for turn in turns for second in turn.spent]
    print(
        f"{name:<7} {wall:7.1f} s, {100 * (wall / without - 1):+.1f} % (rounds {min(overheads):+.1f} to "
        f"{max(overheads):+.1f} %, median {statistics.median(overheads):+.1f} %); "
        f"per report {statistics.median(spent):.3f} ms, at most {max(spent):.1f} ms; "
        f"{sum(turn.cpu for turn in turns):.1f} s of the driver's CPU time; "
        f"uploaded and verified {max(turn.after for turn in turns):.1f} s after a round's last trial"
    )


if __name__ == "__main__":
    main()
