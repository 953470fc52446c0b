"""Two trials on one node share one copy of a data set of 150 MB, by the kernel's accounting of their memory."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest

from trainables.data.base import ImageData, Split
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec

pytestmark = pytest.mark.chaos

MB = 1_000_000
IMAGES = 48_800  # of 3 x 32 x 32 bytes: 150 MB
FEW = 2_000

SPEC = TrialSpec(
    dataset=DatasetSpec(name="digits"),
    model=ModelSpec(name="mlp"),
    training=TrainingSpec(epochs=2, batch_size=500, lr=0.01),
    evaluation=EvaluationSpec(
        steps=1, examples=100, every=1, lipschitz=LipschitzSpec(steps=1, restarts=1, examples=10)
    ),
    method="natural",
    seed=1,
)


def images(count: int) -> ImageData:
    draws = np.random.default_rng(0)

    def split(size: int) -> Split:
        pixels = draws.integers(0, 256, (size, 3, 32, 32), dtype=np.uint8)
        return Split(pixels, draws.integers(0, 10, size), np.arange(size))

    names = tuple(str(label) for label in range(10))
    return ImageData(
        name="noise", class_names=names, scale=255, train=split(count), val=split(200), test=None, split_hash="0"
    )


def memory(pid: int) -> dict[str, float]:
    """Return MB of the object store's mapping (resident, and the process's share of it) and of private memory."""
    sizes = {"store_rss": 0.0, "store_pss": 0.0, "private": 0.0}
    in_store = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            in_store = "plasma" in line or "/dev/shm" in line
            continue
        name, _, rest = line.partition(":")
        if name in {"Rss", "Pss", "Private_Dirty", "Private_Clean"}:
            amount = int(rest.split()[0]) * 1024 / MB
            if name.startswith("Private") and not in_store:
                sizes["private"] += amount
            elif in_store and name in {"Rss", "Pss"}:
                sizes[f"store_{name.lower()}"] += amount
    return sizes


@contextlib.contextmanager
def trials(count: int, data: ImageData):
    """Run `count` trials concurrently, each in its own worker, to the end of their first epoch; yield their memory."""
    import ray
    from ray import tune

    from trainables.training.tune_trainable import TrialTrainable

    worker = ray.remote(tune.with_parameters(TrialTrainable, data=data))
    actors = [worker.options(num_cpus=1).remote(config={"spec": SPEC.to_dict()}) for _ in range(count)]
    results = ray.get([actor.train.remote() for actor in actors], timeout=400)
    yield [memory(result["pid"]) for result in results]
    for actor in actors:
        ray.kill(actor)


def test_two_trials_on_a_node_share_one_copy(capsys):
    import ray

    from study.cluster.ray_settings import listen_locally, quiet_ray

    quiet_ray()
    listen_locally()
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=600 * MB, log_to_driver=False)
    try:
        with trials(1, images(FEW)) as (small,):
            pass
        large = images(IMAGES)
        size = large.train.images.nbytes / MB
        with trials(2, large) as both:
            pass
    finally:
        ray.shutdown()
    lines = [f"data set: {size:.0f} MB; a trial on {FEW} images has {small['private']:.0f} MB of private memory"]
    for trial in both:
        lines.append(
            f"trial: {trial['store_rss']:.0f} MB of the store resident, {trial['store_pss']:.0f} MB its proportional "
            f"share, {trial['private']:.0f} MB of private memory"
        )
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201
    for trial in both:
        assert trial["store_rss"] >= 0.95 * size, "the trial did not read its data from the store"
        assert trial["private"] - small["private"] < 0.3 * size, "the trial has a private copy"
    assert sum(trial["store_pss"] for trial in both) < 1.1 * size
