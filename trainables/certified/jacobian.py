"""Upper bounds on the change of a network's logits relative to the distance of x' from x.

Layer by layer f(x') - f(x) = W_L D_{L-1} W_{L-1} ... D_1 W_1 (x' - x), where D is diagonal, with each ReLU's slope
between its two inputs: 1 or 0 where its sign is known, otherwise between two numbers that follow from its input at x
and its bounds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainables.certified.activations import ELEMENTS, Activations, can_tighten, chunks, cost_of
from trainables.certified.intervals import dot
from trainables.certified.layers import Affine, Layer, MaxPool, Relu
from trainables.spec import Norm

MAX_SIGN_CLASSES = 12
"""Most classes K for which all 2^(K-1) sign vectors (up to a global sign) are tried."""

_UNIT = 2.0**-52
_SPARE_TERMS = 8
_ROUNDING = 1 + 1e-9

_SLOPE_SLACK = 2.0**-26
"""Rounding error of a slope in float64, as bounds lie at least float32's rounding, 2^-24, away from the value at x."""


@dataclass(frozen=True)
class Rates:
    """Bounds on the rate of change of each layer's input, |change| / ||x' - x||_inf, for n examples.

    Attributes:
        rates: (n, *shape_in) of each layer, then of the logits.
        rounding: What float64's rounding adds to a row's rate per entry, (n, *shape_out) of each affine layer.
        tails: Product of the spectral norms of the layers before each one; last, of all layers.
    """

    rates: list[Tensor] = field(default_factory=list)
    rounding: list[Tensor | None] = field(default_factory=list)
    tails: list[float] = field(default_factory=lambda: [1.0])


def lipschitz_bounds(layers: list[Layer], activations: Activations, /, *, norm: Norm, budget: float) -> Tensor:
    """Bound sup over the ball of ||f(x') - f(x)||_1 / ||x' - x||_inf (`linf`), or in l2 over l2 (`l2`).

    For linf this is the largest rate of t . f over t in {-1, 1}^K; up to `MAX_SIGN_CLASSES` classes each t is bounded
    separately; above that each logit is, and the bounds are summed.

    Args:
        layers: The network.
        activations: Bounds on the activations.
        norm: Of the threat model.
        budget: As for `bound_activations`, for the rates of hidden units.

    Returns:
        (n,); inf where there is no bound.
    """
    classes = math.prod(layers[-1].shape_out)
    eye = torch.eye(classes).to(activations.lower[0])
    if norm == "l2":
        bound = _bound_l2(eye, layers, activations)
    else:
        rates = _bound_rates(layers, activations, budget=budget)
        if classes <= MAX_SIGN_CLASSES:
            bound = _bound_rows(eye, layers, activations, rates, signs=_sign_vectors(classes).to(eye)).amax(1)
        else:
            bound = _bound_rows(eye, layers, activations, rates, signs=None).sum(1)
    return (bound * _ROUNDING).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _sign_vectors(classes: int) -> Tensor:
    return torch.tensor([(1.0, *rest) for rest in itertools.product((-1.0, 1.0), repeat=classes - 1)])


def _slopes(activations: Activations, index: int) -> tuple[Tensor, Tensor]:
    """Return the centres and half widths of the slopes of the ReLU at `index`, (n, *shape) each.

    From z to any z' in [l, u] the slope (relu(z') - relu(z)) / (z' - z) grows with z': it lies between its values at l
    and u. For z > 0 > l that is from z / (z - l) to 1, for z <= 0 < u from 0 to u / (u - z).
    """
    lower, upper, values = activations.lower[index], activations.upper[index], activations.values[index]
    positive = values > 0
    unstable = (lower < 0) & (upper > 0)
    active = (lower >= 0).to(values)
    least = torch.where(positive, values / torch.where(positive, values - lower, 1) - _SLOPE_SLACK, 0).clamp(0, 1)
    most = torch.where(positive, 1, upper / torch.where(positive, 1, upper - values) + _SLOPE_SLACK).clamp(0, 1)
    least, most = torch.where(unstable, least, active), torch.where(unstable, most, active)
    return (least + most) / 2, (most - least) / 2


def _candidates(layer: MaxPool, activations: Activations, index: int) -> list[Tensor]:
    """Return for each place in the window which windows can have their maximum there, at x or at x'."""
    best = layer.forward(activations.lower[index])[0]
    return [view >= best for view in layer.windows(layer.pad(activations.upper[index], value=-torch.inf))]


def _pull_through_max_pool(
    layer: MaxPool, rows: Tensor, activations: Activations, index: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Pull rows back through windows that only one input can win.

    Returns:
        Rows at the input; rows at the contested windows, shaped as `rows`; the candidates.
    """
    candidates = _candidates(layer, activations, index)
    # After dead ReLUs all of a window is 0, and its maximum does not change whichever input wins.
    constant = (layer.forward(activations.upper[index])[0] <= layer.forward(activations.lower[index])[0]).unsqueeze(1)
    uncontested = (torch.stack(candidates).sum(0) == 1).unsqueeze(1)
    padded = layer.pad(torch.zeros(*rows.shape[:2], *layer.shape_in).to(rows), value=0.0)
    for can_win, view in zip(candidates, layer.windows(padded), strict=True):
        view += torch.where(uncontested & can_win.unsqueeze(1), rows, 0)
    return layer.crop(padded), torch.where(uncontested | constant, 0, rows), candidates


def _fastest(layer: MaxPool, rates: Tensor, candidates: list[Tensor]) -> Tensor:
    """Return the largest rate of each window's candidates.

    The change of a maximum lies between the changes of its winner at x and of its winner at x'.
    """
    views = layer.windows(layer.pad(rates, value=0.0))
    return torch.stack([torch.where(can_win, view, 0) for can_win, view in zip(candidates, views, strict=True)]).amax(0)


def _bound_rates(layers: list[Layer], activations: Activations, *, budget: float) -> Rates:
    rate_bounds = Rates()
    rates = torch.ones_like(activations.lower[0])
    pixels = math.sqrt(rates[0].numel())
    for index, layer in enumerate(layers):
        rate_bounds.rates.append(rates)
        rounding = None
        if isinstance(layer, Affine):
            rates = layer.forward(rates, layer.magnitude) * _ROUNDING
            rounding = (layer.terms + _SPARE_TERMS) * _UNIT * rates
            rates = torch.minimum(rates, pixels * rate_bounds.tails[index] * layer.row_norms)
        elif isinstance(layer, Relu):
            centre, half = _slopes(activations, index)
            rates = (centre + half) * rates
        else:
            rates = _fastest(layer, rates, _candidates(layer, activations, index))
        rate_bounds.rounding.append(rounding)
        rate_bounds.tails.append(rate_bounds.tails[index] * (1.0 if isinstance(layer, Relu) else layer.spectral))
        if can_tighten(layers, index) and rates[0].numel() * cost_of(layers[: index + 1]) <= budget:
            rates = _refine(layers[: index + 1], activations, rate_bounds, rates)
    rate_bounds.rates.append(rates)
    return rate_bounds


def _refine(layers: list[Layer], activations: Activations, rate_bounds: Rates, rates: Tensor) -> Tensor:
    shape, rates = rates.shape, rates.flatten(1).clone()
    lower, upper = (bounds[len(layers)].flatten(1) for bounds in (activations.lower, activations.upper))
    units = torch.arange(rates.shape[1], device=rates.device)[((upper > 0) & (lower < 0)).any(0)]
    for part in chunks(len(units), layers=layers, examples=len(rates)):
        rows = torch.nn.functional.one_hot(units[part], rates.shape[1]).to(rates).view(-1, *shape[1:])
        bounds = _bound_rows(rows, layers, activations, rate_bounds, signs=None)
        rates[:, units[part]] = torch.minimum(rates[:, units[part]], bounds * _ROUNDING)
    return rates.reshape(shape)


def _bound_rows(
    rows: Tensor, layers: list[Layer], activations: Activations, rate_bounds: Rates, *, signs: Tensor | None
) -> Tensor:
    """Bound the rate of each row . output, or of each signed sum of them.

    Rows are pulled back through the slopes' centres. The slopes' half widths, contested windows and rounding each add
    their share to the bound where they occur, at the rates of the units there. At each layer the remaining row is also
    bounded in l2, with ||v||_1 <= sqrt(d) ||v||_2 and the product of the spectral norms of the earlier layers. The
    smallest of these bounds is returned.

    Args:
        rows: (r, *shape_out).
        layers: The network or its first layers.
        activations: Bounds on their inputs.
        rate_bounds: Bounds on the rates of their inputs.
        signs: (s, r), or None to bound each row.

    Returns:
        (n, s), or (n, r).
    """
    rows = rows.expand(len(activations.lower[0]), *rows.shape)
    pixels = math.sqrt(math.prod(layers[0].shape_in))
    spent = torch.zeros(1).to(rows)
    best = pixels * rate_bounds.tails[len(layers)] * _lengths(rows, signs)
    for index in reversed(range(len(layers))):
        if bool((spent >= best).all()):
            break
        layer, rates = layers[index], rate_bounds.rates[index]
        if isinstance(layer, Affine):
            rounding = rate_bounds.rounding[index]
            if rounding is not None:
                lost = dot(rows.abs(), rounding)
                spent = spent + (lost if signs is None else lost.sum(1, keepdim=True))
            rows = layer.pull_back(rows, layer.weight)
        elif isinstance(layer, Relu):
            centre, half = _slopes(activations, index)
            spent = spent + _weigh(rows, half * rates, signs)
            rows = rows * centre.unsqueeze(1)
        else:
            rows, contested, candidates = _pull_through_max_pool(layer, rows, activations, index)
            spent = spent + _weigh(contested, _fastest(layer, rates, candidates), signs)
        best = torch.minimum(best, spent + pixels * rate_bounds.tails[index] * _lengths(rows, signs))
    else:
        best = torch.minimum(best, spent + _weigh(rows, rate_bounds.rates[0], signs))
    return best


def _weigh(rows: Tensor, weights: Tensor, signs: Tensor | None) -> Tensor:
    """Return the weighted l1 norm of each row, (n, r), or of each signed sum of rows, (n, s)."""
    if signs is None:
        return dot(rows.abs(), weights)
    used = (weights != 0).flatten(1).any(0)
    rows, weights = rows.flatten(2)[:, :, used], weights.flatten(1)[:, used]
    size = max(1, ELEMENTS // max(1, rows[:, 0].numel()))
    return torch.cat([dot((part @ rows).abs(), weights) for part in torch.split(signs, size)], 1)


def _lengths(rows: Tensor, signs: Tensor | None) -> Tensor:
    """Return the l2 norm of each row, (n, r), or of each signed sum, (n, s), up to a millionth too large."""
    rows = rows.flatten(2)
    if signs is None:
        lengths: Tensor = torch.linalg.vector_norm(rows, dim=2)
        return lengths * _ROUNDING
    gram = rows @ rows.transpose(1, 2)
    # Cancellation in t G t leaves errors of the size of float64's rounding of the trace.
    slack = 1e-12 * gram.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
    squares = torch.sum((signs @ gram) * signs, 2)
    return torch.sqrt(squares.clamp_min(0) + slack)


def _bound_l2(rows: Tensor, layers: list[Layer], activations: Activations) -> Tensor:
    """Bound the rate of rows . output in l2, (n,), as `_bound_rows` does, with spectral norms in place of rates."""
    rows = rows.expand(len(activations.lower[0]), *rows.shape)
    norms = [1.0 if isinstance(layer, Relu) else layer.spectral for layer in layers]
    spent = torch.zeros(len(rows)).to(rows)
    best = math.prod(norms) * _spectral(rows)
    for index in reversed(range(len(layers))):
        if bool((spent >= best).all()):
            break
        layer, tail = layers[index], math.prod(norms[:index])
        if isinstance(layer, Affine):
            # || |W| ||_2 <= sqrt(terms) ||W||_2, as each row and column of W has at most `terms` entries.
            rounding = (layer.terms + _SPARE_TERMS) ** 1.5 * _UNIT * norms[index] * tail
            spent = spent + rounding * rows.flatten(1).norm(dim=1)
            rows = layer.pull_back(rows, layer.weight)
        elif isinstance(layer, Relu):
            centre, half = _slopes(activations, index)
            spent = spent + tail * _spectral(rows * half.unsqueeze(1))
            rows = rows * centre.unsqueeze(1)
        else:
            rows, contested, _ = _pull_through_max_pool(layer, rows, activations, index)
            spent = spent + tail * norms[index] * _spectral(contested)
        best = torch.minimum(best, spent + tail * _spectral(rows))
    return best


def _spectral(rows: Tensor) -> Tensor:
    """Return the largest singular value of each (r, d) matrix, r small."""
    gram = rows.flatten(2) @ rows.flatten(2).transpose(1, 2)
    finite = gram.isfinite().flatten(1).all(1)
    largest = torch.linalg.eigvalsh(torch.where(finite.view(-1, 1, 1), gram, 0))[:, -1]
    return torch.where(finite, largest.clamp_min(0).sqrt() * _ROUNDING, torch.inf)
