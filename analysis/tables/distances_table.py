"""The table of trials' distances to adversarial examples."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.statistics.networks.minimum_distances import MemberDistances
from analysis.tables.text_table import TextTable
from analysis.wording import NORMS, radius


def distances_table(members: Sequence[MemberDistances], /) -> TextTable:
    """Return one line for each trial: its median distance and the shares of images within ε and beyond the cap.

    Args:
        members: At least one, all of one study.
    """
    first = members[0]
    return TextTable(
        title=f"Distance to the nearest adversarial example found, {NORMS[first.norm]}, on {first.split}",
        headings=("trial", "method", "images", "misclassified", "median distance", "within ε", "none found"),
        formats=("", "", "d", ".4f", ".4g", ".4f", ".4f"),
        rows=tuple(
            (
                one.trial_id, one.method, len(one.distances), one.within(0.0), one.median, one.within(one.epsilon),
                1 - one.within(one.cap),
            )
            for one in members
        ),
        notes=(
            f"upper bounds: the nearest misclassified point that {first.attack} found at radii up to "
            f"{radius(first.cap)}, by bisection; 0 where the image itself is misclassified",
            f"within ε = {radius(first.epsilon)}: the share fooled there, so 1 minus it is a robust accuracy; none "
            f"found: the share without such a point up to {radius(first.cap)}",
            *(f"trial {one.trial_id} is doubtful: {', '.join(one.flags)}" for one in members if one.flags),
        ),
    )  # fmt: skip
