"""`replay` repeats draws and does not change the stream."""

from __future__ import annotations

import pytest
import torch

from trainables.seeding import replay, seeded


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_replay_repeats_the_draws_after_its_creation_and_does_not_change_the_stream(device):
    with seeded(0, "test", device=device):
        torch.rand(3, device=device)
        replayed = replay(device=device)
        first = torch.rand(5, device=device)
        for _ in range(2):
            with replayed():
                assert torch.equal(torch.rand(5, device=device), first)
        second = torch.rand(5, device=device)
        with replayed():
            torch.rand(5, device=device)
            assert torch.equal(torch.rand(5, device=device), second)
