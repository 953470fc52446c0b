"""Speed of the model of the front; coverage and calibration on studies with known true accuracies.

python benchmarks/uncertainty.py [--studies 100] [--only depths]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from analysis.statistics.accuracy_model import true_accuracies

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.studies.known_truth import (
    DEPTHS,
    DESIGNS,
    FURTHER,
    HEADER,
    UNDECIDABLE,
    evaluate_design,
    pooled,
    synthetic_study,
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=100, help="synthetic studies per design")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    options = parser.parse_args()
    _, clean, robust = synthetic_study(np.random.default_rng(0), trials=100, examples=10_000, scatter=0.02)
    start = time.perf_counter()
    true_accuracies(clean, robust, generator=np.random.default_rng(0), draws=1000)
    print(f"model of the front, 100 trials x 10,000 examples, 1,000 draws: {time.perf_counter() - start:.1f} s")
    print(HEADER)
    records = []
    for number, (name, make) in enumerate({**DESIGNS, **UNDECIDABLE, **DEPTHS, **FURTHER}.items()):
        if options.only not in name:
            continue
        generator = np.random.default_rng([1, number])
        record = evaluate_design(make, generator=generator, studies=options.studies, draws=300)
        print(record.line(name), flush=True)
        records += [record] if name in DESIGNS else []
    if records:
        print(pooled(records).line("the first 16"))


if __name__ == "__main__":
    main()
