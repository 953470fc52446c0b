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


def cross_entropy_against(labels: Tensor, /) -> Callable[[Tensor], Tensor]:
    """Return cross-entropy as a function of the logits alone, the form of an attack's objective."""
    return lambda logits: cross_entropy(logits, labels)


def _at_least_fp32(logits: Tensor) -> Tensor:
    # Mixed precision yields bf16 logits; a loss needs more than their 8 significant bits.
    return logits.float() if logits.dtype == torch.bfloat16 else logits
