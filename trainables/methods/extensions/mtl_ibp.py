"""MTL-IBP: adversarial training, and training on worst cases that interval bounds prove.

Source: De Palma, Bunel, Dvijotham, Kumar, Stanforth & Lomuscio 2023, "Expressive Losses for Verified Robustness via
Convex Combinations" (arXiv 2305.13991), MTL-IBP; compared with the authors' code. Theirs ramps both radii over a fixed
number of epochs and regularises by l1; here the bounds' radius rises over a share of the steps.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from trainables.attacks.losses import cross_entropy, cross_entropy_against
from trainables.certified.intervals import worst_case_logits
from trainables.certified.translation import live_layers
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import recorded_statistics
from trainables.settings import setting

RAMP = 0.6
"""Share of the training's steps over which the bounds' radius rises; started at its full size they ruin the network.

The share of the radius is that of the ramp to the power `training.bounds_power`. Bounds of an untrained network grow by
a factor per layer: with a linear rise `cnn2` on MNIST collapses at any alpha; with the fourth power it has learned
before they are wide, at a small alpha (at 0.5 six epochs are too few). The smoothed schedule of Xu et al. 2020
(auto_LiRPA) begins like it.
"""


@dataclass(frozen=True, kw_only=True)
class MtlIbp:
    """(1 - alpha) * CE(z(x')) + alpha * CE(worst-case logits by interval bounds over the ball), x' by PGD on CE.

    Adversarial training at alpha 0, natural training at radius 0, pure interval training at alpha 1. The bounds' radius
    rises from 0 over the first 60 % of the steps, by `training.bounds_power` slowly at first, beside `training.ramp`;
    gradients are clipped by `training.clip_norm`.

    Batch norm normalises the bounds by the batch's statistics of x', which the pass that gives z(x') has anyway and
    alone adds to the running ones; gradients flow through them. The bounds are without dropout, as the network that is
    measured. In l2 they bound the first layer by the norms of its rows, and go on with intervals, which are loose. The
    network must be a sequence of layers that certified bounds know.
    """

    attacks: ClassVar[bool] = True
    bounds: ClassVar[bool] = True
    alpha: float = setting(
        0.01, doc="weight of the proved worst case", low=0.0, high=1.0, search=(0.001, 1.0), log=True
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `adversarial` and `bounds`, each with its weight."""
        x_adv = step.craft(cross_entropy_against(step.y))
        if self.alpha == 0 or step.threat is None or not step.attacks:
            return LossTerms({"adversarial": cross_entropy(step.model(x_adv), step.y)})
        with recorded_statistics(step.network) as statistics:
            adversarial = cross_entropy(step.network(x_adv), step.y)
        radius = min(1.0, step.progress / RAMP) ** step.bounds_power * step.threat.epsilon
        with step.full_precision():
            layers = live_layers(step.network, tuple(step.x.shape[1:]), statistics=statistics)
            worst = worst_case_logits(layers, step.x, step.y, threat=dataclasses.replace(step.threat, epsilon=radius))
        # not as `weights`: if both rose over `training.ramp`, the whole loss would be scaled
        bounds = self.alpha * cross_entropy(worst, step.y)
        return LossTerms({"adversarial": (1 - self.alpha) * adversarial, "bounds": bounds})
