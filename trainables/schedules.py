"""Where over training a learning rate falls at once."""

from __future__ import annotations

SCHEDULES = ("constant", "cosine", "piecewise", "milestones")

_MILESTONES = {
    20: (10, 15),
    30: (15, 25),
    40: (20, 30),
    50: (25, 40),
    60: (30, 50),
    70: (40, 60),
    80: (30, 50, 70),
    120: (40, 80, 100),
    160: (40, 80, 120, 140),
}
_LONGER = (60, 100, 140, 180)


def drops(schedule: str, /, *, epochs: int) -> tuple[float, ...]:
    """Return the shares of training at which the learning rate falls to a tenth, ascending; none for smooth schedules.

    Args:
        schedule: One of `SCHEDULES`. `milestones` falls after whole epochs that depend on how many there are.
        epochs: Epochs of the whole training.

    Source: `milestones` is `get_scheduler` of the code published with Yang et al. 2020
    (lolip/models/torch_utils/__init__.py).
    """
    if schedule == "piecewise":
        return (0.5, 0.75)
    if schedule == "milestones":
        reached = next((found for most, found in _MILESTONES.items() if epochs <= most), _LONGER)
        return tuple(epoch / epochs for epoch in reached if epoch < epochs)
    return ()
