"""Figures of one trained network: accuracy against radius, attacked images, its best epoch against its last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.figure import COLUMN_WIDTH, paper_style
from analysis.statistics.networks.radius_curves import Curve

_RIGHT, _WRONG = "#0072B2", "#D55E00"
_HEIGHT = 0.75 * COLUMN_WIDTH


def save(figure: Figure, path: Any, /) -> None:
    """Write a figure of this module as PNG; it holds no time."""
    with paper_style():
        figure.savefig(path, metadata={"Software": None}, dpi=160)


def accuracy_against_epsilon(curve: Curve, /, *, eval_epsilon: float) -> Figure:
    """Return one network's curve of robust accuracy over the attack's radius.

    Args:
        curve: The network's.
        eval_epsilon: The study's own radius, marked.
    """
    with paper_style():
        figure = Figure(figsize=(COLUMN_WIDTH, _HEIGHT), layout="constrained")
        ax = figure.add_subplot()
        ax.plot(curve.radii, curve.accuracies, marker="o", markersize=3.5, linewidth=1, color=_RIGHT)
        ax.axvline(eval_epsilon, color="0.6", linewidth=0.8, linestyle="--")
        ax.annotate(f" {eval_epsilon:g}", (eval_epsilon, 1.0), fontsize=6.5, color="0.4", va="top")
        label = f"attack radius ({curve.norm}, pixel range)"
        ax.set(xlabel=label, ylabel=f"robust accuracy ({curve.split})", ylim=(-0.02, 1.02))
        ax.set_title(f"{curve.attack}, n = {curve.examples} validation images", fontsize=6.5, color="0.35")
    return figure


def attacked_images(
    clean: np.ndarray,
    attacked: np.ndarray,
    /,
    *,
    labels: Sequence[str],
    clean_predictions: Sequence[str],
    attacked_predictions: Sequence[str],
    epsilon: float,
    norm: str,
) -> Figure:
    """Return clean images above, the same attacked below, each with its prediction; wrong ones in another colour.

    Args:
        clean: (n, c, h, w) in [0, 1], c 1 or 3.
        attacked: The same images at the attack's points.
        labels: n true classes.
        clean_predictions: n predicted classes.
        attacked_predictions: n predicted classes.
        epsilon: Radius of the attack, pixel range.
        norm: `linf` or `l2`.
    """
    with paper_style():
        columns = len(clean)
        figure = Figure(figsize=(max(COLUMN_WIDTH, 0.62 * columns), 1.9), layout="constrained")
        axes = figure.subplots(2, columns, squeeze=False)
        rows = (("clean", clean, clean_predictions), ("attacked", attacked, attacked_predictions))
        for row, (name, images, predictions) in enumerate(rows):
            for column in range(columns):
                ax, image = axes[row, column], np.moveaxis(images[column], 0, -1)
                gray = image.shape[-1] == 1
                ax.imshow(image[..., 0] if gray else image, cmap="gray" if gray else None, vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                right = predictions[column] == labels[column]
                ax.set_title(predictions[column], fontsize=6.5, color=_RIGHT if right else _WRONG, pad=2)
            axes[row, 0].set_ylabel(name, fontsize=7)
        for column in range(columns):
            axes[1, column].set_xlabel(labels[column], fontsize=6.5, color="0.35", labelpad=2)
        figure.suptitle(f"predictions; true class below; radius {epsilon:g} in {norm}", fontsize=6.5, color="0.35")
    return figure


def best_against_last(epochs: Sequence[Mapping[str, Any]], /, *, best_epoch: int | None) -> Figure:
    """Return validation accuracy over the epochs with the best measured epoch and the last one marked.

    A robust accuracy that was carried over from an earlier epoch is not drawn.

    Args:
        epochs: A trial's epoch rows, ascending.
        best_epoch: The measured epoch of highest robust accuracy; None where none was measured.
    """
    with paper_style():
        figure = Figure(figsize=(COLUMN_WIDTH, _HEIGHT), layout="constrained")
        ax = figure.add_subplot()
        ax.plot(
            [row["epoch"] for row in epochs], [row["val_clean_accuracy"] for row in epochs], color="0.6", label="clean"
        )
        measured = [row for row in epochs if not row["stale"] and row["val_robust_accuracy"] is not None]
        robust = {row["epoch"]: row["val_robust_accuracy"] for row in measured}
        ax.plot(list(robust), list(robust.values()), marker="o", markersize=3, color=_RIGHT, label="robust")
        marks = [(best_epoch, "best", "^"), (max(robust, default=None), "last", "s")]
        for epoch, name, marker in marks:
            if epoch is not None and epoch in robust:
                label = f"{name}: {robust[epoch]:.3f}"
                ax.plot(epoch, robust[epoch], marker, color=_WRONG, markersize=7, fillstyle="none", label=label)
        ax.set(xlabel="epochs trained", ylabel="accuracy (val)", ylim=(-0.02, 1.02))
        ax.legend(frameon=False, fontsize=6.5)
    return figure
