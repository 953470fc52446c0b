"""Draws that are given back, and drawn again."""

from __future__ import annotations

import pytest
import torch

from trainables.seeding import replay, seeded


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_replay_draws_what_came_after_it_was_made_and_leaves_the_stream_alone(device):
    with seeded(0, "test", device=device):
        torch.rand(3, device=device)
        again = replay(device=device)
        first = torch.rand(5, device=device)
        for _ in range(2):
            with again():
                assert torch.equal(torch.rand(5, device=device), first)
        second = torch.rand(5, device=device)
        with again():
            torch.rand(5, device=device)
            assert torch.equal(torch.rand(5, device=device), second)
