"""What members of the front keep under strong attacks, which `study.evaluation.strong_attacks` runs on validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.results import Table, examples_file, read_evaluations, read_examples

FALL = 0.02
"""A member that loses more robust accuracy than this, on the same images, is doubtful."""


@dataclass(frozen=True, kw_only=True)
class StrongResult:
    """One member under strong attacks.

    Attributes:
        images: How many validation images were attacked, the first ones.
        searched: Robust accuracy on them under the attack of the search.
        robust: The share of them that neither that attack nor a strong one fools.
        attacks: The strong attacks, with the number of images where it is smaller.
        flags: Flags of the search's attack under all checks.
        certified: The share of them that is proved correct; None where nothing is.
    """

    images: int
    searched: float
    robust: float
    attacks: tuple[str, ...]
    flags: tuple[str, ...]
    certified: float | None = None

    @property
    def fall(self) -> float:
        """Robust accuracy lost to the strong attacks, on the same images."""
        return self.searched - self.robust

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against the search's value: a fall of more than `FALL`, and flags; empty for nothing."""
        # in images, since a difference of two shares that should be 0.02 may be a last bit more
        fallen = round(self.fall * self.images) > FALL * self.images
        return (*([f"falls by {self.fall:.3f}"] if fallen else []), *self.flags)

    def __str__(self) -> str:
        return f"{self.robust:.3f} ({0.0 - self.fall:+.3f}){' !' if self.doubts else ''}"


def read_strong(study_dir: str | Path, table: Table, /) -> dict[str, StrongResult]:
    """Return what is known of a study's trials under strong attacks, by trial id; empty for an exported file.

    Args:
        study_dir: The study's folder.
        table: Its result rows.

    Raises:
        ResultsError: Damaged files, or of another version.
    """
    folder = Path(study_dir)
    if not folder.is_dir():
        return {}
    measured: dict[str, list[dict[str, Any]]] = {}
    for row in read_evaluations(folder, split="val").to_pylist():
        measured.setdefault(row["trial_id"], []).append(row)
    results = table.select(["trial_id", "checkpoint_kind", "norm", "eval_epsilon", "attack", "steps", "restarts"])
    found = ((row["trial_id"], _result(folder, row, measured.get(row["trial_id"], []))) for row in results.to_pylist())
    return {trial: result for trial, result in found if result is not None}


def _result(folder: Path, trial: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> StrongResult | None:
    """Combine a trial's measurements by image; None without the search's own attack or without a strong one."""
    same = {"checkpoint": trial["checkpoint_kind"], "norm": trial["norm"], "epsilon": trial["eval_epsilon"]}
    effort = {name: trial[name] for name in ("attack", "steps", "restarts")} | {"checks": "full"}
    rows = [row for row in rows if all(row[name] == value for name, value in same.items())]
    own = [row for row in rows if all(row[name] == value for name, value in effort.items())]
    if not own:
        return None
    reference = max(own, key=lambda row: row["examples"])
    strong = [row for row in rows if row not in own and row["examples"] <= reference["examples"]]
    if not strong:
        return None
    outcomes = read_examples(examples_file(folder, reference["evaluation"]))
    place = {image: at for at, image in enumerate(outcomes["index"].to_pylist())}
    left = outcomes["robust_correct"].to_numpy(zero_copy_only=False).copy()
    for row in strong:
        attacked = read_examples(examples_file(folder, row["evaluation"])).select(["index", "robust_correct"])
        for image, robust in zip(*(attacked[name].to_pylist() for name in attacked.column_names), strict=True):
            left[place[image]] &= robust
    few = {row["attack"]: row["examples"] for row in strong}
    return StrongResult(
        images=len(left),
        searched=float(reference["robust_accuracy"]),
        robust=float(np.mean(left)),
        attacks=tuple(name if n == len(left) else f"{name} (first {n})" for name, n in few.items()),
        flags=tuple(reference["flags"]),
        certified=reference["certified_accuracy"],
    )


def certified_of(row: Mapping[str, Any], strong: StrongResult | None, /) -> float | None:
    """Return the lower end of what a trial's true robust accuracy on validation may be; None where none is proved.

    Of a trial without `val_certified_accuracy` it is its robust accuracy, less the share of the first images that the
    search's attack leaves and that are not certified.

    Args:
        row: Its result row.
        strong: The trial under strong attacks.
    """
    measured: float | None = row["val_certified_accuracy"]
    if measured is not None or strong is None or strong.certified is None:
        return measured
    return max(0.0, float(row["val_robust_accuracy"]) - (strong.searched - strong.certified))


def strong_notes(strong: Mapping[str, StrongResult], trials: Iterable[str], /) -> list[str]:
    """Explain the values of some trials under strong attacks, and name the doubtful ones; empty for none.

    Args:
        strong: Results by trial.
        trials: Ids of the trials shown.
    """
    shown = {trial: strong[trial] for trial in trials if trial in strong}
    if not shown:
        return []
    images = sorted({result.images for result in shown.values()})
    attacks = dict.fromkeys(name for result in shown.values() for name in result.attacks)
    lines = [
        f"robust (strong): not fooled by the search's attack, {', '.join(attacks)}, on the first "
        f"{' or '.join(map(str, images))} validation images; in brackets the change on these images"
    ]
    doubtful = [f"{trial} ({', '.join(result.doubts)})" for trial, result in shown.items() if result.doubts]
    return [*lines, *([f"doubtful (!), robust accuracy may be too high: {', '.join(doubtful)}"] if doubtful else [])]
