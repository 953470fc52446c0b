"""A network whose Lipschitz constant in l2 is known by construction: 1 behind its normalisation.

Source: Araujo, Havens, Delattre, Allauzen & Hu 2023, "A Unified Algebraic Perspective on Lipschitz Neural Networks"
(arXiv 2303.03169): theorem 3 and equation 9 for the residual layers (SLL), section 4.1 for convolutions; the last layer
is the affine one that theorem 1 gives, with the same rescaling.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.sizes import require_side


def rescaling(gram: Tensor, log_q: Tensor, /) -> Tensor:
    """Return t_i = 1 / sum_j |W'W|_ij q_j / q_i, (h,), for which W'W <= diag(1 / t); 0 where all of W'W's row is 0.

    Layers compute it in float64, as in float32 the sum's rounding error would take its share of every certificate.

    Args:
        gram: |W'W|, summed over positions for a convolution, (h, h).
        log_q: Logarithms of the positive q, (h,).
    """
    q = log_q.exp()
    sums = gram @ q
    return torch.where(sums > 0, q / sums.clamp_min(torch.finfo(sums.dtype).tiny), 0)


class SllLinear(nn.Module):
    """x - 2 W diag(t) relu(W'x + b) of vectors (n, d): 1-Lipschitz in l2 for any weights.

    In eval mode t is a constant, kept as long as the weights are the same: attacks pass thousands of times.

    Args:
        features: d.
        hidden: Columns of W.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(hidden, features)))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.log_q = nn.Parameter(torch.zeros(hidden))
        self._kept: tuple[Tensor, ...] | None = None

    def rescaled(self) -> Tensor:
        """Return t, (hidden,); see `rescaling`."""
        if self.training or torch.compiler.is_compiling():
            return self._rescaled()
        weights = (self.weight.detach(), self.log_q.detach())
        if self._kept is None or not all(map(_same, weights, self._kept)):
            with torch.no_grad():
                self._kept = (*(weight.clone() for weight in weights), self._rescaled())
        return self._kept[-1]

    def _rescaled(self) -> Tensor:
        return rescaling(self.gram(self.weight.double()), self.log_q.double()).to(self.weight)

    def inner(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return W'x, (n, hidden, ...), for W as `weight`."""
        return x @ weight.T

    def outer(self, h: Tensor, weight: Tensor) -> Tensor:
        """Return W h, shaped as the layer's input, for W as `weight`."""
        return h @ weight

    def gram(self, weight: Tensor) -> Tensor:
        """Return |W'W| (hidden, hidden), for W as `weight`."""
        return (weight @ weight.T).abs()

    def per_unit(self, values: Tensor) -> Tensor:
        """Return a value for each hidden unit, (hidden,), so that it broadcasts over `inner`'s result."""
        return values

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, ...) to the same shape."""
        hidden = (self.inner(x, self.weight) + self.per_unit(self.bias)).clamp_min(0)
        return x - 2 * self.outer(self.per_unit(self.rescaled()) * hidden, self.weight)


def _same(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and one.device == two.device and torch.equal(one, two)


class SllConv2d(SllLinear):
    """The same of images, with W' a zero-padded convolution.

    W'W without padding is the convolution of the kernel with itself. Padding drops what W would write outside the
    image, and so lowers W'W in the order of positive semidefinite matrices: the rescaling holds with it too.

    Args:
        channels: Of the image.
        hidden: Channels of W'x.
        kernel: Side, odd.
    """

    def __init__(self, channels: int, hidden: int, *, kernel: int = 3) -> None:
        super().__init__(channels, hidden)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(hidden, channels, kernel, kernel)))
        self._padding = kernel // 2

    def inner(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return W'x, (n, hidden, h, w)."""
        return F.conv2d(x, weight, padding=self._padding)

    def outer(self, h: Tensor, weight: Tensor) -> Tensor:
        """Return W h, (n, channels, h, w)."""
        return F.conv_transpose2d(h, weight, padding=self._padding)

    def gram(self, weight: Tensor) -> Tensor:
        """Return |W'W| summed over the distances of two positions, (hidden, hidden)."""
        return F.conv2d(weight, weight, padding=weight.shape[-1] - 1).abs().sum((2, 3))

    def per_unit(self, values: Tensor) -> Tensor:
        """Return (hidden, 1, 1)."""
        return values.view(-1, 1, 1)


class LipschitzLinear(nn.Linear):
    """diag(t)^(1/2) W x + b: 1-Lipschitz in l2 for any weights."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.log_q = nn.Parameter(torch.zeros(classes))

    def rows(self) -> Tensor:
        """Return the matrix that is applied, (classes, features)."""
        weight = self.weight.double()
        t = rescaling((weight @ weight.T).abs(), self.log_q.double())
        return t.sqrt().to(self.weight)[:, None] * self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, features) to logits (n, classes)."""
        return F.linear(x, self.rows(), self.bias)


class Widen(nn.Module):
    """Adds channels of zeros: an isometry."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, channels, h, w)."""
        return F.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


class NormPool2d(nn.Module):
    """Sums over windows side by side, over the square root of their size: 1-Lipschitz in l2, unlike means or maxima."""

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c, h // rows, w // columns); what fills no window is left out."""
        return F.avg_pool2d(x, self.kernel) * math.sqrt(math.prod(self.kernel))


def lipschitz_cnn(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Sequential:
    """Build a 1-Lipschitz network: four residual convolutions (32, 64 channels), two residual linear layers, one last.

    Its constant is that of the normalisation before it, 1 / std, for any weights, so its margins certify its
    robustness in l2. Dropout acts before the last layer; in training it is not 1-Lipschitz. Images of any size, at
    least 8x8. See `MODELS` for the arguments.

    Raises:
        ValueError: The images are too small.
    """
    require_side("lipschitz_cnn", image_shape, 8)
    _, height, width = image_shape
    features = 32 * (height // (height // 8)) * (width // (width // 8))
    return nn.Sequential(
        Widen(32),
        SllConv2d(32, 32),
        SllConv2d(32, 32),
        NormPool2d((height // 8, width // 8)),
        SllConv2d(32, 32),
        SllConv2d(32, 32),
        nn.Flatten(),
        SllLinear(features, 64),
        SllLinear(features, 64),
        nn.Dropout(dropout),
        LipschitzLinear(features, num_classes),
    )
