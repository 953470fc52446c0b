"""Minimum adversarial distances: of the theorem's classifier against the separation, of front members against FAB.

python benchmarks/distances.py [STUDY_DIR] [--images 40]

Without a study the network is the theorem's classifier of the digits, the class of the nearest training image. With d
an image's distance to the nearest one of another class, its own distance is d/2 or more, by the triangle inequality,
and d at most; in between it depends on the other images of its class.

With a study it is its front's members, and the peer is FAB of AutoAttack's authors. Ours bisects the radius of the
study's own attack; FAB (Croce & Hein 2020, arXiv 1907.02044) minimises the distance itself, by projections on the
boundary, here 100 of them from each of three starts. Both give upper bounds, so the lower one is the better. The
images are the first of validation; those that either says are misclassified as they are, or finds no point for, are
counted apart.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from analysis.data.results import read_results
from analysis.fronts.front import front_of, spread_along
from analysis.fronts.objectives import FRONT, values
from study.directory.layout import open_config
from study.evaluation.trial_weights import weights_of
from study.search.trial_specs import spec_of
from trainables.attacks.base import is_correct
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.data import load_dataset
from trainables.evaluation.adversarial_distances import CAP, adversarial_distances
from trainables.evaluation.checkpoint import load_trial
from trainables.evaluation.trial import measured_part
from trainables.spec import DatasetSpec

MEMBERS = 4
FAB = {"n_iter": 100, "n_restarts": 3}
NORMS = {"linf": "Linf", "l2": "L2"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "study", type=Path, nargs="?", help="a study's folder, with the checkpoints of its front's members"
    )
    parser.add_argument("--data-root", help="folder of the data set's files")
    parser.add_argument("--images", type=int, default=40, help="validation images")
    given = parser.parse_args()
    if given.study is None:
        _theorem(given.images)
    else:
        _members(given)


def _theorem(count: int) -> None:
    data = load_dataset(DatasetSpec(name="digits"))
    images, labels = measured_part(
        data.train, len(data.train), scale=data.scale, layout=torch.contiguous_format, device=torch.device("cpu")
    )
    model = _NearestClass(images, labels)
    logits = -model(images[:count])
    apart = logits.scatter(1, labels[:count, None], torch.inf).amin(1).double()
    ascent = Ascent(ThreatModel("linf", float(apart.max())), 20, 5)
    found = adversarial_distances(model, images[:count], labels[:count], attack="pgd", ascent=ascent, seed=0).distance
    reached = found.isfinite()
    ratios = (found / apart)[reached]
    print(
        f"theorem's classifier of {len(images)} digits, {count} of them, {int(reached.sum())} reached: distance over "
        f"that to another class: from {ratios.min():.3f} to {ratios.max():.3f}, median {ratios.median():.3f}"
    )


class _NearestClass(nn.Module):
    """The theorem's classifier; its logits are minus the distances to the classes."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self._classes = [images[labels == label].flatten(1) for label in labels.unique()]

    def forward(self, x: Tensor) -> Tensor:
        return -torch.stack([torch.cdist(x.flatten(1), one, p=torch.inf).amin(1) for one in self._classes], dim=1)


def _members(given: argparse.Namespace) -> None:
    config = open_config(given.study)
    front = front_of(read_results(given.study))
    members = front.take(spread_along(values(front, FRONT), cap=MEMBERS)).to_pylist()
    cpu, evaluation, data = torch.device("cpu"), config.evaluation, None
    print("trial, method: images of both, of one alone; median distance, ours and FAB's; ratio: median, 5 % and 95 %")
    for row in members:
        spec = spec_of(config, given.study, row)
        data = data or load_dataset(replace(spec.dataset, root=given.data_root or spec.dataset.root))
        model, layout = load_trial(weights_of(given.study, config, row, "last"), spec, data, device=cpu)
        images, labels = measured_part(data.val, given.images, scale=data.scale, layout=layout, device=cpu)
        threat = ThreatModel(evaluation.norm, CAP * evaluation.epsilon)
        ascent = Ascent(threat, evaluation.steps, evaluation.restarts)
        ours = adversarial_distances(model, images, labels, attack=evaluation.attack, ascent=ascent, seed=0).distance
        peer = _fab(model.requires_grad_(requires_grad=False), images.contiguous(), labels, threat=threat)
        both = ours.isfinite() & peer.isfinite() & (ours > 0) & (peer > 0)
        one = (ours.isfinite() & (ours > 0)) != (peer.isfinite() & (peer > 0))
        shares = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
        low, middle, high = torch.quantile(ours[both] / peer[both], shares)
        print(
            f"{row['trial_id']}, {row['method']}: {int(both.sum())}, {int(one.sum())}; {ours[both].median():.4f}, "
            f"{peer[both].median():.4f}; {middle:.3f}, {low:.2f}, {high:.2f}",
            flush=True,
        )


def _fab(model: nn.Module, images: Tensor, labels: Tensor, *, threat: ThreatModel) -> Tensor:
    """Return the distances of FAB's points, 0 for misclassified images and inf where it finds none."""
    from pyautoattack.fab_pt import FABAttack_PT

    with torch.random.fork_rng():
        attack = FABAttack_PT(model, norm=NORMS[threat.norm], eps=threat.epsilon, device=images.device, **FAB)
        points = attack.perturb(images, labels)
    distance = threat.distance(points.double(), images.double())
    distance[is_correct(model(points), labels)] = torch.inf
    return distance


if __name__ == "__main__":
    main()
