"""Losses against values computed by hand."""

from __future__ import annotations

import math

import torch

from trainables.attacks.losses import cross_entropy, cross_entropy_against, kl_divergence


def test_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [100.0, 0.0]])
    labels = torch.tensor([1, 1])
    expected = torch.tensor([math.log(4 / 3), 100.0])
    assert torch.allclose(cross_entropy(logits, labels), expected)
    assert torch.allclose(cross_entropy_against(labels)(logits), expected)


def test_kl_divergence_by_hand():
    p, q = torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]])
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert torch.allclose(kl_divergence(p.log(), q.log() + 7), torch.tensor([expected]))
    assert torch.equal(kl_divergence(p.log(), p.log()), torch.zeros(1))


def test_losses_of_bf16_logits_are_computed_in_fp32():
    p, q = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(8) % 3
    assert torch.equal(cross_entropy(p, labels), cross_entropy(p.float(), labels))
    assert torch.equal(kl_divergence(p, q), kl_divergence(p.float(), q.float()))
    assert cross_entropy(p.double(), labels).dtype == torch.float64


def test_kl_divergence_is_differentiated_in_both_arguments():
    draws = torch.Generator().manual_seed(0)
    p, q = (torch.randn(4, 3, dtype=torch.float64, generator=draws).requires_grad_() for _ in range(2))
    kl_divergence(p, q).sum().backward()
    for logits in (p, q):
        direction, h = torch.randn(4, 3, dtype=torch.float64, generator=draws), 1e-5
        ends = []
        for sign in (1, -1):
            moved = [x.detach() + sign * h * direction * (x is logits) for x in (p, q)]
            ends.append(kl_divergence(*moved).sum())
        assert torch.isclose((logits.grad * direction).sum(), (ends[0] - ends[1]) / (2 * h), rtol=1e-6)


def test_kl_divergence_of_saturated_logits_is_finite():
    saturated = torch.tensor([[1000.0, 0.0, -1000.0]], requires_grad=True)
    value = kl_divergence(saturated, torch.zeros(1, 3))
    value.sum().backward()
    assert torch.allclose(value, torch.tensor([math.log(3)]))
    assert saturated.grad.isfinite().all()
