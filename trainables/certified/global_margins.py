"""Certificates in l2 from a network's own Lipschitz constant, which one pass over the images gives.

The margin z_y - z_k changes by at most sqrt(2) L per unit of distance (Tsuzuku, Sato & Sugiyama 2018, "Lipschitz-Margin
Training", arXiv 1802.04034, proposition 1).
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from trainables.certified.activations import FLOAT32, Ball
from trainables.certified.translation import UnsupportedModuleError, hooked, leaves
from trainables.models.lipschitz_cnn import LipschitzLinear, NormPool2d, SllConv2d, SllLinear, Widen, rescaling
from trainables.models.normalize import Normalize

_UNIT = (
    SllLinear, SllConv2d, LipschitzLinear, NormPool2d, Widen,
    nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity, nn.ReLU,
)  # fmt: skip
"""Modules of constant 1 in eval mode; those of the second line round nothing."""


def global_constant(model: nn.Module, /) -> float | None:
    """Return an upper bound on the l2 Lipschitz constant in eval mode; None where it is not known by construction.

    Of a sequence of the layers of `lipschitz_cnn` it is that of its normalisation, 1 / the smallest std.
    """
    try:
        modules = [module for _, module in leaves(model)]
    except UnsupportedModuleError:
        return None
    if not all(type(module) in (Normalize, *_UNIT) and not hooked(module) for module in modules):
        return None
    return math.prod(_constant(module) for module in modules)


def global_margins(model: nn.Module, labels: Tensor, ball: Ball, /) -> Tensor:
    """Bound min over k != y of z_y - z_k over the ball from below, (n,), of a network with a `global_constant`.

    The pass is in float64, and the bound is widened by float32's rounding error, which later layers do not enlarge.

    Args:
        model: The network.
        labels: (n,) int64.
        ball: An l2 ball.
    """
    exact = copy.deepcopy(model).double().eval()
    constant, values, reach = 1.0, ball.centre, ball.length or 0.0
    noise = torch.zeros(len(values)).to(values)
    for _, module in leaves(exact):
        noise = _constant(module) * noise + _rounding(module, values.abs(), constant * reach + noise)
        values, constant = module(values), _constant(module) * constant
    own = values.gather(1, labels[:, None])
    margins = (own - values).scatter(1, labels[:, None], torch.inf).amin(1)
    return margins - math.sqrt(2) * (constant * reach + noise)


def _constant(module: nn.Module) -> float:
    return 1 / float(module.std.double().min()) if isinstance(module, Normalize) else 1.0


def _rounding(module: nn.Module, sizes: Tensor, reach: Tensor) -> Tensor:
    """Bound the error of one layer in float32, summed in any order, in l2, (n,).

    Args:
        module: The layer.
        sizes: Magnitudes of its input at the centre, (n, ...).
        reach: Largest l2 distance of the input at any point of the ball, as computed in float32, from that, (n,).
    """
    if isinstance(module, Normalize):
        return 8 * FLOAT32 * (_length((sizes + module.mean.abs()) / module.std) + _constant(module) * reach)
    if isinstance(module, NormPool2d):
        pooled: Tensor = module(sizes)
        return FLOAT32 * (math.prod(module.kernel) + 4) * (_length(pooled) + reach)
    if isinstance(module, LipschitzLinear):
        errors = (module.weight.shape[1] + 8) * FLOAT32 * module.rows().abs()
        return _length(sizes @ errors.T + FLOAT32 * module.bias.abs()) + float(errors.norm()) * reach
    if isinstance(module, SllLinear):
        return _rounding_of_residual(module, sizes, reach)
    return torch.zeros_like(reach)


def _rounding_of_residual(module: SllLinear, sizes: Tensor, reach: Tensor) -> Tensor:
    weight = module.weight.abs()
    t = rescaling(module.gram(module.weight), module.log_q)
    # of W'x + b, of t, of W h: each hidden unit's, relative to the sum of magnitudes
    errors = (weight[0].numel() + weight[:, 0].numel() + 10) * FLOAT32 * t
    hidden = module.inner(sizes, weight) + module.per_unit(module.bias.abs())
    at_centre = 2 * module.outer(module.per_unit(errors) * hidden, weight) + FLOAT32 * sizes
    # the norm of |W| diag(errors) |W|' is at most the largest error over |W|'s own rescaling
    largest = torch.where(errors > 0, errors / rescaling(module.gram(weight), module.log_q), 0).amax()
    return _length(at_centre) + (2 * largest + FLOAT32) * reach


def _length(values: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return lengths
