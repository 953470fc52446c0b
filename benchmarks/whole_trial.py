"""Time of a whole quickstart trial of each method: with the default attack and recipe, and with neither, alternately.

"Neither" is what a config from before them means: PGD on cross-entropy in equal steps, no margin check, no warm-up,
ramp or clipping. The ratio is that of the medians.

    python benchmarks/whole_trial.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

from study.config.loading import load_config
from trainables.data import load_dataset
from trainables.data.base import ImageData
from trainables.methods import METHODS
from trainables.settings import with_former_values
from trainables.spec import TrialSpec
from trainables.training.fit import trainer_for

PARTS = ("seconds", "seconds_training", "seconds_attack", "seconds_lipschitz")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    config = load_config("quickstart")
    data = load_dataset(config.dataset).without_test()
    former = with_former_values({}, TrialSpec)
    print("median seconds of a trial: in all, of training, of the attack, of the Lipschitz estimate")
    totals = {"without": 0.0, "default": 0.0}
    for method in config.search.methods:
        radius = {"train_epsilon": config.evaluation.epsilon} if METHODS.load(method).attacks else {}
        spec = config.trial_spec({"method": method, **radius}, number=0)
        before = replace(
            spec,
            training=replace(spec.training, **former["training"]),
            evaluation=replace(spec.evaluation, **former["evaluation"]),
        )
        found: dict[str, list[list[float]]] = {name: [] for name in totals}
        for _ in range(rounds):
            for name, each in (("without", before), ("default", spec)):
                found[name].append(_times(each, data))
        medians = {
            name: [statistics.median(part) for part in zip(*times, strict=True)] for name, times in found.items()
        }
        for name, times in medians.items():
            totals[name] += times[0]
            print(f"{method:24s} {name:8s} " + " ".join(f"{one:6.2f}" for one in times))
        print(f"{'':24s} ratio    {medians['default'][0] / medians['without'][0]:6.2f}", flush=True)
    print(f"all methods: {totals['without']:.1f} s without, {totals['default']:.1f} s by default, ratio "
          f"{totals['default'] / totals['without']:.2f}")  # fmt: skip


def _times(spec: TrialSpec, data: ImageData) -> list[float]:
    trainer = trainer_for(spec, data=data, device="cpu")
    while not trainer.done:
        trainer.run_epoch()
    row = trainer.outcome().row
    return [row[part] for part in PARTS]


if __name__ == "__main__":
    main()
