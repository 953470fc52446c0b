"""The share of images with an adversarial example within each distance, a line for each front member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.method_styles import styles_for, trial_colours
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style
from analysis.statistics.networks.minimum_distances import MemberDistances
from analysis.statistics.networks.radius_curves import Curve
from analysis.statistics.networks.separated_classifier import NAME, SeparatedClassifier, classifier_point
from analysis.statistics.networks.theorem_radius import TheoremRadius
from analysis.wording import NORMS, provenance, radius

HEADINGS = ("trial_id", "method", "split", "attack", "norm", "epsilon", "cap", "images", "distance", "share_within")

_CERTIFIED: dict[str, Any] = {"color": "0.15", "linewidth": 2.2, "alpha": 0.35, "drawstyle": "steps-post"}
_EPSILON: dict[str, Any] = {"color": "0.35", "linewidth": 0.7, "linestyle": "--"}
_HALF: dict[str, Any] = {"color": "0.35", "linewidth": 0.8, "linestyle": ":"}


def distances_sheet(
    members: Sequence[MemberDistances],
    table: Table,
    /,
    *,
    reach: TheoremRadius | None = None,
    classifier: SeparatedClassifier | None = None,
    width: float = COLUMN_WIDTH,
) -> PaperFigure:
    """Return the figure: at each distance, the share of images with a misclassified point found that near.

    Each point found is an upper bound of the image's distance, so the true line is nowhere below the drawn one. A line
    begins at the share of misclassified images, and ends at the largest radius searched.

    Args:
        members: Distances of front members, at least one.
        table: The study's result rows.
        reach: Of the study's training images, or of its data set: half the distance between classes is marked.
        classifier: The theorem's classifier: the share of images that it does not certify is a line too.
        width: Inches.
    """
    cap = max(one.cap for one in members)
    styles = styles_for(one.method for one in members)
    colours = trial_colours({one.trial_id: one.method for one in members})
    with paper_style():
        legend = [
            Line2D([], [], color=style.colour, linestyle=style.line, linewidth=1.1, label=style.label)
            for style in styles.values()
        ]
        epsilons = sorted({one.epsilon for one in members})
        legend.append(Line2D([], [], label=f"the study's ε = {' | '.join(map(radius, epsilons))}", **_EPSILON))
        if reach is not None and reach.radius <= cap:
            legend.append(Line2D([], [], label=f"half the distance between classes, r = {reach.radius:.4g}", **_HALF))
        curve = None
        if classifier is not None and classifier_point(classifier, table) is not None:
            curve = classifier.curve(cap, examples=max(len(one.distances) for one in members))
            legend.append(Line2D([], [], label=f"{NAME}, not certified", **_CERTIFIED))
        figure = blank(width, 0.55 * width + 0.7, legend=legend)
        ax = figure.add_subplot()
        for one in members:
            look: dict[str, Any] = {"color": colours[one.trial_id], "linestyle": styles[one.method].line}
            ax.plot(*steps_of(one), linewidth=1.1, drawstyle="steps-post", gid="distances", **look)
        _name(members, ax, colours)
        for epsilon in epsilons:
            ax.axvline(epsilon, **_EPSILON)
        if reach is not None and reach.radius <= cap:
            ax.axvline(reach.radius, **_HALF)
        if curve is not None:
            ax.plot(curve.radii, [1 - each for each in curve.accuracies], gid="certified", **_CERTIFIED)
        norms = " | ".join(dict.fromkeys(NORMS.get(one.norm, one.norm) for one in members))
        ax.set(xlim=(-0.01 * cap, 1.1 * cap), ylim=(-0.02, 1.04))
        ax.set_xlabel(lines(f"distance to the nearest adversarial example found\n({norms}), an upper bound", 60))
        ax.set_ylabel(f"share of images ({' | '.join(dict.fromkeys(one.split for one in members))})")
        add_small_print(figure, f"{provenance(table)} · {_searched(members, cap)}")
    return PaperFigure(
        name="minimum_distance",
        figure=figure,
        headings=HEADINGS,
        rows=(*_rows(members), *(_certified_rows(curve, cap) if curve is not None else ())),
    )


def _searched(members: Sequence[MemberDistances], cap: float) -> str:
    """Describe how the distances were found, and which of them are in doubt."""
    attacks = ", ".join(dict.fromkeys(one.attack for one in members))
    counts = ", ".join(dict.fromkeys(f"{len(one.distances)}" for one in members))
    doubts = "".join(f" · trial {one.trial_id} is doubtful: {', '.join(one.flags)}" for one in members if one.flags)
    return f"radii up to {radius(cap)} searched by bisection with {attacks} on {counts} images{doubts}"


def steps_of(member: MemberDistances, /) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances from 0 to the cap at which a member's line rises, and the share of images within each."""
    found = np.array(member.distances)
    x = np.unique(np.concatenate([[0.0, member.cap], found[found <= member.cap]]))
    return x, np.searchsorted(found, x, side="right") / len(found)


def _name(members: Sequence[MemberDistances], ax: Axes, colours: Mapping[str, str]) -> None:
    """Write each trial on the middle of its line, where lines differ most, in its colour."""
    for place, one in enumerate(sorted(members, key=lambda one: one.median or np.inf)):
        x, y = steps_of(one)
        height = 0.3 + 0.5 * (place + 1) / (len(members) + 1)
        at = int(np.searchsorted(y, height))
        if at < len(x):
            look: dict[str, Any] = {"fontsize": 5, "va": "center", "ha": "center", "color": colours[one.trial_id]}
            ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.3}
            ax.text(float(x[at]), height, one.trial_id, bbox=ground, **look)


def _rows(members: Sequence[MemberDistances]) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        (
            one.trial_id, one.method, one.split, one.attack, one.norm, one.epsilon, one.cap, len(one.distances),
            float(at), float(share),
        )
        for one in members
        for at, share in zip(*steps_of(one), strict=True)
    )  # fmt: skip


def _certified_rows(curve: Curve, cap: float) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        (curve.trial_id, None, curve.split, curve.attack, curve.norm, None, cap, curve.examples, at, 1 - kept)
        for at, kept in zip(curve.radii, curve.accuracies, strict=True)
    )
