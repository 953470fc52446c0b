"""Time to read 100,000 result rows, and to compute their front and hypervolume over three objectives.

Imports and writing the file are not included.

python benchmarks/fronts.py [--rows 100000]
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from analysis.data.results import read_results, write_columns
from analysis.data.schema import RESULT
from analysis.fronts.front import front_hypervolume, front_of
from analysis.fronts.objectives import FRONT

OBJECTIVES = (*FRONT, "val_lipschitz_scale_free_log10")
METHODS = np.array(["natural", "trades", "adversarial_training", "gradient_regularization"])


def synthetic_columns(count: int) -> dict[str, object]:
    """Return the columns of a study with a trade-off and a few failed and flagged trials."""
    draw = np.random.default_rng(0)
    strength = draw.beta(2, 1.3, count)
    clean = np.clip(0.97 - 0.14 * strength**2 - 0.05 * draw.exponential(1, count), 0, 1)
    robust = np.clip(0.85 * clean * strength**0.6 - 0.05 * draw.exponential(1, count), 0, clean)
    failed = draw.random(count) < 0.02
    texts = {
        "study": "made-up", "proposal": "sampler", "dataset": "digits", "split_hash": "0", "model": "mlp",
        "norm": "linf", "attack": "pgd", "constraints": '["val_clean_accuracy >= 0.6"]', "checkpoint_kind": "last",
    }  # fmt: skip
    numbers = {
        "eval_epsilon": 0.1, "steps": 10, "restarts": 1, "examples": 1000, "lipschitz_steps": 20,
        "lipschitz_restarts": 2, "lipschitz_examples": 500, "epochs": 20, "threads": 1, "seconds": 60.0,
    }  # fmt: skip
    columns: dict[str, object] = {name: [text] * count for name, text in texts.items()}
    columns |= {name: np.full(count, number) for name, number in numbers.items()}
    columns |= {
        "trial_id": [f"{number:06d}" for number in range(count)],
        "number": np.arange(count),
        "seed": np.arange(count),
        "status": np.where(failed, "failed", "completed").tolist(),
        "flags": [["noisy"] if flagged else [] for flagged in draw.random(count) < 0.01],
        "method": METHODS[draw.integers(len(METHODS), size=count)].tolist(),
        "val_clean_accuracy": [None if lost else float(value) for lost, value in zip(failed, clean, strict=True)],
        "val_robust_accuracy": [None if lost else float(value) for lost, value in zip(failed, robust, strict=True)],
        "val_lipschitz_scale_free_mean": 10 ** (1.5 - strength + 0.1 * draw.normal(size=count)),
        "param.dropout": draw.random(count) / 2,
    }
    return columns


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.parquet"
        write_columns(path, synthetic_columns(count), RESULT)
        print(f"{count:,} rows, {path.stat().st_size / 1e6:.1f} MB, {platform.machine()}")
        start = time.perf_counter()
        table = read_results(path)
        read = time.perf_counter()
        members = front_of(table, objectives=OBJECTIVES)
        front = time.perf_counter()
        volume = front_hypervolume(table, objectives=OBJECTIVES)
        done = time.perf_counter()
    print(f"{'read':>12}: {read - start:6.2f} s")
    print(f"{'front':>12}: {front - read:6.2f} s, {members.num_rows} members over {', '.join(OBJECTIVES)}")
    print(f"{'hypervolume':>12}: {done - front:6.2f} s, {volume.value:.4f}, reference {volume.reference}")
    print(f"{'total':>12}: {done - start:6.2f} s")


if __name__ == "__main__":
    main()
