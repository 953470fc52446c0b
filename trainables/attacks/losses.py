"""Losses per example; the caller reduces them once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor, /) -> Tensor:
    """Return -log softmax(logits)[label].

    Args:
        logits: (n, K).
        labels: (n,) int64 in [0, K).

    Returns:
        Loss per example in nats, (n,); NaN where the logits are.
    """
    return F.cross_entropy(_at_least_fp32(logits), labels, reduction="none")


def kl_divergence(logits_p: Tensor, logits_q: Tensor, /) -> Tensor:
    """Return KL(softmax(logits_p) || softmax(logits_q)), differentiable in both.

    Args:
        logits_p: (n, K).
        logits_q: (n, K).

    Returns:
        Divergence per example in nats, (n,).
    """
    log_p, log_q = (F.log_softmax(_at_least_fp32(logits), dim=1) for logits in (logits_p, logits_q))
    return (log_p.exp() * (log_p - log_q)).sum(1)


def boosted_cross_entropy(logits: Tensor, labels: Tensor, /) -> Tensor:
    """Return -log p_y - log(1 - max_{k != y} p_k), p = softmax(logits), without cancellation near p_k = 1.

    Args:
        logits: (n, K).
        labels: (n,) int64 in [0, K).

    Returns:
        Loss per example in nats, (n,).

    Source: Wang et al. 2020, "Improving Adversarial Robustness Requires Revisiting Misclassified Examples" (ICLR 2020),
    the boosted cross-entropy of MART.
    """
    logits = _at_least_fp32(logits)
    best_wrong = logits.scatter(1, labels[:, None], -torch.inf).argmax(1, keepdim=True)
    without = logits.scatter(1, best_wrong, -torch.inf).logsumexp(1)
    return cross_entropy(logits, labels) + logits.logsumexp(1) - without


def squared_distance(logits_p: Tensor, logits_q: Tensor, /) -> Tensor:
    """Return ||softmax(logits_p) - softmax(logits_q)||_2^2, differentiable in both.

    Args:
        logits_p: (n, K).
        logits_q: (n, K).

    Returns:
        Values per example in [0, 2], (n,).
    """
    p, q = (_at_least_fp32(logits).softmax(1) for logits in (logits_p, logits_q))
    return (p - q).square().sum(1)


def squared_error(logits: Tensor, labels: Tensor, /, *, smoothing: float) -> Tensor:
    """Return ||softmax(logits) - t||_2^2, t with 1 - smoothing at the label and smoothing / (K - 1) elsewhere.

    Args:
        logits: (n, K).
        labels: (n,) int64 in [0, K).
        smoothing: In [0, 1].

    Returns:
        Values per example in [0, 2], (n,).
    """
    p = _at_least_fp32(logits).softmax(1)
    target = torch.full_like(p, smoothing / (p.shape[1] - 1)).scatter(1, labels[:, None], 1 - smoothing)
    return (p - target).square().sum(1)


def cross_entropy_against(labels: Tensor, /) -> Callable[[Tensor], Tensor]:
    """Return cross-entropy as a function of the logits alone, the form of an attack's objective."""
    return lambda logits: cross_entropy(logits, labels)


def best_margin(logits: Tensor, labels: Tensor, /) -> Tensor:
    """Return how far the best wrong class is ahead of the right one, (n,).

    Args:
        logits: (n, K).
        labels: (n,) int64.
    """
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return wrong - logits.gather(1, labels[:, None]).squeeze(1)


def margin_against(labels: Tensor, /) -> Callable[[Tensor], Tensor]:
    """Return the best wrong class's margin as a function of the logits alone."""
    return lambda logits: best_margin(logits, labels)


def _at_least_fp32(logits: Tensor) -> Tensor:
    # Mixed precision yields bf16 logits; a loss needs more than their 8 significant bits.
    return logits.float() if logits.dtype == torch.bfloat16 else logits
