"""Logs front members to their MLflow runs: figures of the network and its failures, its weights, and a model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.data.results import read_epochs
from analysis.fronts.front import spread_along
from analysis.fronts.objectives import FRONT, values
from analysis.wording import attack_name
from study.config.schema import StudyConfig
from study.console import notes
from study.directory.layout import member_folder
from study.errors import short
from study.evaluation.trial_weights import weights_of
from study.reports.radius_curves import CURVE, write_curve
from study.search.trial_specs import spec_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.statistics.networks.radius_curves import Curve
    from study.tracking.tracker import Tracker
    from trainables.data.base import ImageData

CURVE_IMAGES, GRID_IMAGES = 200, 10
RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Radii of the accuracy curve, as multiples of the study's own."""
SEED = 0
WEIGHTS = "weights.npz"
"""A member's state dict as arrays, which load without unpickling."""


def publish_members(config: StudyConfig, study_dir: Path, front: Any, /, *, tracker: Tracker) -> None:
    """Draw and save at most `tracking.models` members, spread along the front, and pass the files to the tracker.

    A member whose checkpoint is missing, or that cannot be drawn, is skipped with a note.

    Args:
        config: The study's config.
        study_dir: Its folder; the files are written to `tracking/members/`.
        front: The rows on the front.
        tracker: The study's open tracker.
    """
    cap = config.tracking.models
    if not front.num_rows or not cap:
        return
    members = front.take(spread_along(values(front, FRONT), cap=cap)).to_pylist()
    console = notes()
    data: ImageData | None = None
    for row in members:
        folder = member_folder(study_dir, row["trial_id"])
        try:
            if not ((folder / CURVE).exists() and (folder / WEIGHTS).exists()):
                if data is None:
                    from trainables.data import load_dataset

                    console.print(f"drawing and saving {len(members)} members of the front for MLflow ...")
                    data = load_dataset(config.dataset).without_test()
                _write_member(config, row, folder, study_dir=study_dir, data=data)
        except Exception as error:  # noqa: BLE001 - the results are on disk, so a failure here must not fail the study
            console.print(f"trial {row['trial_id']} is on the front, but MLflow gets no model of it: {short(error)}")
            continue
        tracker.artifacts([folder / CURVE, *sorted(folder.glob("*.png"))], "figures", trial_id=row["trial_id"])
        tracker.artifacts([folder / WEIGHTS], "weights", trial_id=row["trial_id"])
        tracker.model(row["trial_id"], folder / "model")


def _write_member(
    config: StudyConfig, row: Mapping[str, Any], folder: Path, *, study_dir: Path, data: ImageData
) -> None:
    import torch

    from analysis.plots.networks.member import accuracy_against_epsilon, best_against_last, save
    from study.tracking.artifacts import save_model
    from trainables.checkpoints.weights import write_arrays
    from trainables.evaluation.checkpoint import load_trial
    from trainables.evaluation.trial import measured_part

    checkpoint = weights_of(study_dir, config, row, "last")
    model, layout = load_trial(checkpoint, spec_of(config, study_dir, row), data, device=torch.device("cpu"))
    images, labels = measured_part(data.val, CURVE_IMAGES, scale=data.scale, layout=layout, device=torch.device("cpu"))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    curve = _curve(row, model, images, labels)
    write_curve(partial / CURVE, curve)
    save(accuracy_against_epsilon(curve, eval_epsilon=row["eval_epsilon"]), partial / "accuracy_against_epsilon.png")
    save(_grid(row, model, images[:GRID_IMAGES], labels[:GRID_IMAGES], data=data), partial / "clean_and_attacked.png")
    epochs = read_epochs(study_dir, trials=[row["trial_id"]]).to_pylist()
    save(best_against_last(epochs, best_epoch=row["best_epoch"]), partial / "best_against_last.png")
    write_arrays(partial / WEIGHTS, model)
    example = images[:2].contiguous().numpy()
    save_model(model.to(memory_format=torch.contiguous_format), example, partial / "model")  # type: ignore[call-overload]
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _curve(row: Mapping[str, Any], model: nn.Module, images: Tensor, labels: Tensor) -> Curve:
    from analysis.statistics.networks.radius_curves import Curve
    from trainables.attacks.threat import Ascent, ThreatModel
    from trainables.evaluation.evaluate import attack_images, clean_measures

    radii = [share * row["eval_epsilon"] for share in RADII]
    accuracies = [clean_measures(model, images, labels)[0]]
    for radius in radii[1:]:
        ascent = Ascent(ThreatModel(row["norm"], radius), row["steps"], row["restarts"])
        outcome = attack_images(model, images, labels, attack=row["attack"], ascent=ascent, seed=SEED)
        accuracies.append(float(outcome.robust.double().mean()))
    return Curve(
        trial_id=row["trial_id"],
        method=row["method"],
        split="val",
        attack=attack_name(row["attack"], row["steps"]),
        norm=row["norm"],
        examples=len(images),
        radii=tuple(radii),
        # an image that is misclassified within a smaller radius is within a larger one too
        accuracies=tuple(np.minimum.accumulate(accuracies).tolist()),
    )


def _grid(row: Mapping[str, Any], model: nn.Module, images: Tensor, labels: Tensor, *, data: ImageData) -> Any:
    import torch

    from analysis.plots.networks.member import attacked_images
    from trainables.attacks.base import load_attack, run_attack
    from trainables.attacks.threat import Ascent, ThreatModel

    ascent = Ascent(ThreatModel(row["norm"], row["eval_epsilon"]), row["steps"], row["restarts"])
    _, points = run_attack(load_attack(row["attack"]), model, images, labels, ascent=ascent, seed=SEED)

    def names(classes: Tensor) -> list[str]:
        return [data.class_names[number] for number in classes.tolist()]

    with torch.no_grad():
        before, after = model(images).argmax(1), model(points).argmax(1)
    return attacked_images(
        images.numpy(),
        points.numpy(),
        labels=names(labels),
        clean_predictions=names(before),
        attacked_predictions=names(after),
        epsilon=row["eval_epsilon"],
        norm=row["norm"],
    )
