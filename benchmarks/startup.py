"""Time of `robust-study --help` beyond that of an empty Python process: medians of several alternating runs.

python benchmarks/startup.py [--runs 5]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def seconds(command: Sequence[str], /) -> float:
    """Return the wall time of one run of `command`, in seconds.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each command")
    runs = parser.parse_args().runs
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "robust-study --help": [str(Path(sys.executable).parent / "robust-study"), "--help"],
    }
    for command in commands.values():
        seconds(command)  # the first run reads the files and writes the bytecode
    # Alternating, so that other load on the machine affects both.
    rounds = [{name: seconds(command) for name, command in commands.items()} for _ in range(runs)]
    medians = {name: statistics.median(times[name] for times in rounds) for name in commands}
    for name, median in medians.items():
        print(f"{name:>20}: {median:6.3f} s (median of {runs})")
    empty, with_help = medians.values()
    print(f"{'difference':>20}: {with_help - empty:6.3f} s on Python {platform.python_version()}, {platform.machine()}")


if __name__ == "__main__":
    main()
