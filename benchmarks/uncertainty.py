"""Speed of the bootstrap and of the model of the front; coverage and calibration on studies of known truth.

python benchmarks/uncertainty.py [--studies 100]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from analysis.beliefs import drawn_hypervolumes, summary
from analysis.front_probability import membership, true_accuracies
from analysis.fronts import non_dominated
from analysis.uncertainty import bootstrap_accuracies

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.known_truth import calibration_table, made_up_study

# trials, examples, scatter behind the best trade-off, how far examples are hard for all alike
DESIGNS = (
    (20, 1000, 0.02, 0.8),
    (30, 500, 0.03, 0.8),
    (40, 1000, 0.01, 0.8),
    (40, 1000, 0.003, 0.8),
    (60, 300, 0.02, 0.8),
    (40, 5000, 0.01, 0.8),
    (30, 1000, 0.02, 0.97),
    (30, 1000, 0.02, 0.0),
    (10, 1000, 0.02, 0.8),
)


def one_design(trials: int, examples: int, scatter: float, shared: float, *, studies: int) -> str:
    """Return a line: calibration error of the front's probability, coverage of the hypervolume, bias of both."""
    draw = np.random.default_rng(trials + examples)
    said, was, covered, bias, plain = [], [], [], [], []
    for _ in range(studies):
        truth, clean, robust = made_up_study(draw, trials=trials, examples=examples, scatter=scatter, shared=shared)
        drawn = true_accuracies(clean, robust, generator=draw, draws=300, burn_in=150)
        said.append(membership(drawn))
        was.append(non_dominated(truth, maximise=True))
        volume = float(drawn_hypervolumes(truth[None])[0])
        found = summary(drawn_hypervolumes(drawn))
        covered.append(found.low <= volume <= found.high)
        bias.append(found.value - volume)
        measured = np.stack([clean.mean(axis=1), robust.mean(axis=1)], axis=1)
        plain.append(float(drawn_hypervolumes(measured[None])[0]) - volume)
    error, _ = calibration_table(np.concatenate(said), np.concatenate(was))
    return (
        f"{trials:6d} {examples:8d} {scatter:7.3f} {shared:6.2f} | {error:6.3f} {np.concatenate(said).mean():6.3f} "
        f"{np.concatenate(was).mean():6.3f} | {np.mean(covered):8.3f} {np.mean(bias):+8.4f} {np.mean(plain):+8.4f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=100, help="made-up studies per design")
    studies = parser.parse_args().studies
    matrix = np.random.default_rng(0).random((100, 10_000)) < 0.5
    start = time.perf_counter()
    bootstrap_accuracies(matrix, resamples=2000, generator=np.random.default_rng(0))
    print(f"bootstrap, 100 trials x 10,000 examples x 2,000 resamples: {time.perf_counter() - start:.1f} s")
    _, clean, robust = made_up_study(np.random.default_rng(0), trials=100, examples=10_000, scatter=0.02)
    start = time.perf_counter()
    true_accuracies(clean, robust, generator=np.random.default_rng(0), draws=1000)
    print(f"model of the front, 100 trials x 10,000 examples, 1,000 draws: {time.perf_counter() - start:.1f} s")
    print("trials examples scatter shared |    ECE   said    was | coverage     bias measured")
    for design in DESIGNS:
        print(one_design(*design, studies=studies), flush=True)


if __name__ == "__main__":
    main()
