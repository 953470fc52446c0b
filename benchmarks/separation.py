"""Time and memory of the exact separation of MNIST, against plain NumPy on a sample in the same run.

Needs MNIST under ROBUST_STUDY_DATA (or --data-root), and is otherwise skipped.

    python benchmarks/separation.py [--norm linf] [--dataset mnist] [--threads 2] [--plain 16]
"""

from __future__ import annotations

import argparse
import platform
import resource
import time

import numpy as np

from trainables.data import DataError, load_raw
from trainables.data.base import Integers, Pixels
from trainables.separation.nearest import Encoder, available_cores


def plain(images: Pixels, labels: Integers, others: Pixels, other_labels: Integers, *, norm: str) -> Integers:
    """Return exact distances to the nearest image of another label, one query at a time, without pruning."""
    flat = others.reshape(len(others), -1)
    nearest = []
    for image, label in zip(images.reshape(len(images), -1), labels, strict=True):
        if norm == "linf":
            distances = (np.maximum(flat, image) - np.minimum(flat, image)).max(axis=1)
        else:
            distances = (np.subtract(flat, image, dtype=np.int32) ** 2).sum(axis=1)
        nearest.append(int(distances[other_labels != label].min()))
    return np.array(nearest, dtype=np.int64)


def peak_mb() -> float:
    """Return the process's peak resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--norm", default="linf", choices=["linf", "l2"])
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--plain", type=int, default=16, help="number of queries repeated with plain NumPy")
    options = parser.parse_args()
    try:
        raw, name = load_raw(options.dataset, root=options.data_root)
    except DataError as error:
        print(f"skipped: {error}")
        return
    print(f"{name}, {options.norm}, {options.threads} threads, {platform.machine()}; {peak_mb():.0f} MB after reading")
    start = time.perf_counter()
    encoder = Encoder(raw.train_images, norm=options.norm)
    train = encoder.encode(raw.train_images, raw.train_labels)
    test = encoder.encode(raw.test_images, raw.test_labels)
    print(f"{'encoding':>22}: {time.perf_counter() - start:7.2f} s")
    start = time.perf_counter()
    few = encoder.encode(raw.train_images[:2], raw.train_labels[:2])
    encoder.nearest(few, few, threads=1)
    print(f"{'compiling, or cached':>22}: {time.perf_counter() - start:7.2f} s")
    for pairs, queries in (("train-train", train), ("test-train", test)):
        start, start_cpu = time.perf_counter(), time.process_time()
        nearest = encoder.nearest(queries, train, threads=options.threads)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        least = f"{nearest.distance[nearest.found].min()} levels{' squared' * (options.norm == 'l2')}"
        print(f"{pairs:>22}: {seconds:7.2f} s ({cpu:.2f} s of CPU), least {least}, peak {peak_mb():.0f} MB")
    count = options.plain
    start_cpu = time.process_time()
    slow = plain(
        raw.test_images[:count], raw.test_labels[:count], raw.train_images, raw.train_labels, norm=options.norm
    )
    per_query = (time.process_time() - start_cpu) / count
    if not np.array_equal(slow, nearest.distance[:count]):
        raise SystemExit("plain NumPy gives different distances")
    ratio = per_query / (cpu / len(test))
    print(f"{'plain NumPy':>22}: {per_query * len(test):7.0f} s of CPU for test-train, estimated from {count} queries: "
          f"{ratio:.0f} times as long, the same distances")  # fmt: skip


if __name__ == "__main__":
    main()
