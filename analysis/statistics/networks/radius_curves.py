"""Robust accuracy over the radius of the attack."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.wording import attack_name


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One trial's robust accuracy over the radius of the attack.

    Args:
        trial_id: The trial.
        method: Its method.
        split: "val" or "test".
        attack: Name of the attack.
        norm: `linf` or `l2`.
        examples: Number of images attacked.
        radii: Ascending, pixel range; at 0 robust accuracy is clean accuracy.
        accuracies: Fractions in [0, 1], one per radius.
    """

    trial_id: str
    method: str
    split: str
    attack: str
    norm: str
    examples: int
    radii: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def measured(self) -> bool:
        """Whether it was measured at more radii than the two of a result row, 0 and the study's own."""
        return len(self.radii) > 2


def curve_of(row: dict[str, object], /) -> Curve:
    """Return the two points of a result row: clean accuracy at 0, robust accuracy at its radius."""
    return Curve(
        trial_id=str(row["trial_id"]),
        method=str(row["method"]),
        split="val",
        attack=attack_name(str(row["attack"]), int(row["steps"])),  # type: ignore[call-overload]
        norm=str(row["norm"]),
        examples=int(row["examples"]),  # type: ignore[call-overload]
        radii=(0.0, float(row["eval_epsilon"])),  # type: ignore[arg-type]
        accuracies=(float(row["val_clean_accuracy"]), float(row["val_robust_accuracy"])),  # type: ignore[arg-type]
    )
