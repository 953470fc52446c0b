"""Measurements on test: the strongest and the like-for-like attack of each trial, and the uses of test data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.data.results import examples_file, read_examples
from analysis.data.schema import ResultsError
from analysis.statistics.intervals import Estimate, accuracy_of, difference
from analysis.wording import NORMS, radius, shown_attack

Row = Mapping[str, Any]

_STRENGTH = ("fgsm", "square", "pgd", "margin", "reachable_targets", "multi_targeted", "apgd_t", "autoattack")
"""Known attacks, weakest first; a user's own attack ranks after PGD."""

_SETTINGS = ("checkpoint", "attack", "norm", "epsilon", "steps", "restarts", "examples", "checks")


def settings_phrase(row: Row, /) -> str:
    """Describe how a row was measured: "PGD, 10 steps, 1 restart, norm, ε = 0.1, 300 images"."""
    attack = str(row["attack"])
    effort = f"{row['steps']} step{'s' * (row['steps'] != 1)}, {row['restarts']} restart{'s' * (row['restarts'] != 1)}"
    if attack == "autoattack":
        effort = f"standard set after PGD ({effort})"
    norm = NORMS.get(row["norm"], row["norm"])
    return f"{shown_attack(attack)}, {effort}, {norm}, ε = {radius(row['epsilon'])}, {row['examples']} images"


def uses_of_test(rows: Sequence[Row], /) -> list[dict[str, Any]]:
    """Group the uses of test data by their settings, in order of first use.

    Args:
        rows: Evaluation rows; each is one use.

    Returns:
        By name the `settings` in words, the ids of the `trials`, in order, and the number of commands, `occasions`.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(_on_test(rows), key=lambda row: (row["occasion"] or "", row["number"])):
        groups.setdefault(tuple(row[name] for name in _SETTINGS), []).append(row)
    uses = []
    for group in groups.values():
        settings = f"{settings_phrase(group[0])}, {group[0]['checkpoint']} checkpoint, {group[0]['checks']} checks"
        trials = list(dict.fromkeys(row["trial_id"] for row in group))
        uses.append({"settings": settings, "trials": trials, "occasions": len({row["occasion"] for row in group})})
    return uses


def uses_lines(rows: Sequence[Row], /) -> list[str]:
    """Describe the uses of test data: a line with their number, and a line for each setting."""
    tested = _on_test(rows)
    if not tested:
        return ["test data was never used"]
    networks, occasions = ({row[name] for row in tested} for name in ("trial_id", "occasion"))
    first = (
        f"test data was used {_times(len(tested))}: {len(networks)} network{'s' * (len(networks) != 1)} measured on "
        f"{len(occasions)} occasion{'s' * (len(occasions) != 1)}"
    )
    uses = ((use["settings"], use["trials"]) for use in uses_of_test(rows))
    return [first, *(f"{len(trials)} x {settings}: {_listed(trials)}" for settings, trials in uses)]


def like_for_like(result: Row, rows: Sequence[Row], /) -> Row | None:
    """Return the measurement on test of a trial's own checkpoint that differs from validation only in the split.

    Args:
        result: The trial's result row.
        rows: Evaluation rows.

    Returns:
        The one with most images; None without one.
    """
    return max(alike(result, rows), key=lambda row: (row["examples"], row["checks"] == "full"), default=None)


def alike(result: Row, rows: Sequence[Row], /) -> list[Row]:
    """Return all measurements that `like_for_like` chooses from, of any number of images."""
    settings = {"attack": result["attack"], "steps": result["steps"], "restarts": result["restarts"]}
    return [
        row for row in on_own_checkpoint(result, rows) if all(row[name] == value for name, value in settings.items())
    ]


def on_own_checkpoint(result: Row, rows: Sequence[Row], /) -> list[Row]:
    """Return the measurements on test of a trial's own checkpoint at the study's own radius."""
    settings = {
        "trial_id": result["trial_id"], "study": result["study"], "checkpoint": result["checkpoint_kind"],
        "norm": result["norm"], "epsilon": result["eval_epsilon"],
    }  # fmt: skip
    return [row for row in _on_test(rows) if all(row[name] == value for name, value in settings.items())]


def lipschitz_on_test(result: Row, rows: Sequence[Row], /) -> float | None:
    """Return the mean local Lipschitz estimate of a trial's own checkpoint on test, the one with most images."""
    best = lipschitz_row(result, rows)
    return None if best is None else float(best["lipschitz_mean"])


def lipschitz_row(result: Row, rows: Sequence[Row], /) -> Row | None:
    """Return the measurement on test of a trial's own checkpoint with the Lipschitz estimate of most images."""
    estimated = [row for row in on_own_checkpoint(result, rows) if row["lipschitz_mean"] is not None]
    return max(estimated, key=lambda row: row["lipschitz_examples"] or 0, default=None)


def doubts_on_test(result: Row, rows: Sequence[Row], /) -> list[str]:
    """Return every flag of a trial's measurements on test at the study's own radius, with its attack, sorted."""
    return sorted({f"{flag} ({attack_name(row)})" for row in on_own_checkpoint(result, rows) for flag in row["flags"]})


def strongest(result: Row, rows: Sequence[Row], /) -> Row | None:
    """Return the measurement on test under the strongest attack, at the study's own radius, on a trial's checkpoint.

    Stronger is the later one in `_STRENGTH`; then more steps and restarts; then more images.
    """
    return max(on_own_checkpoint(result, rows), key=_strength, default=None)


def attack_name(row: Row, /) -> str:
    """Return a row's attack and effort in short: `PGD-10x2`, `autoattack`."""
    attack = str(row["attack"])
    if attack == "autoattack":
        return attack
    return f"{shown_attack(attack)}-{row['steps']}" + (f"x{row['restarts']}" if row["restarts"] != 1 else "")


def on_images_of(study_dir: str | Path, row: Row, other: Row, /) -> float | None:
    """Return a measurement's robust accuracy on the images of another measurement that has fewer.

    Args:
        study_dir: The folder of both measurements.
        row: The measurement to evaluate.
        other: The measurement with the images.

    Returns:
        None if per-example outcomes are missing or `row` does not cover all of those images.
    """
    files = [examples_file(study_dir, measurement["evaluation"]) for measurement in (row, other)]
    try:
        own_examples, other_examples = (read_examples(file) for file in files)
    except (ResultsError, OSError):
        return None
    images = set(other_examples["index"].to_pylist())
    correct = dict(zip(own_examples["index"].to_pylist(), own_examples["robust_correct"].to_pylist(), strict=True))
    return sum(correct[index] for index in images) / len(images) if images and images <= set(correct) else None


def tracked_metrics(result: Row, rows: Sequence[Row], /, *, study_dir: str | Path) -> dict[str, float]:
    """Return the metrics on test of a trial's MLflow run: its like-for-like values, and the accuracy under each attack.

    The latter is `test_robust_accuracy_<attack>` if measured on the same number of images as the like-for-like values,
    `test_examples`, and `test_robust_accuracy_<attack>_first_<n>` if on another number n: a few easy images must not
    look like a weak attack. The like-for-like attack on the same n images is then added. Of several measurements under
    one attack the strongest is used.

    Args:
        result: The trial's result row.
        rows: Evaluation rows.
        study_dir: The folder of the trial's measurements.
    """
    metrics: dict[str, float] = {}
    same, measured = like_for_like(result, rows), on_own_checkpoint(result, rows)
    images = max((row["examples"] for row in measured), default=0) if same is None else same["examples"]
    if same is not None:
        metrics |= {f"test_{name}": same[name] for name in ("clean_accuracy", "robust_accuracy")}
    if measured:
        metrics["test_examples"] = images
    if (lipschitz := lipschitz_on_test(result, rows)) is not None:
        metrics["test_lipschitz_mean"] = lipschitz
    strongest_of = {_metric_name(row): row for row in sorted(measured, key=_strength)}
    for name, row in strongest_of.items():
        few = "" if row["examples"] == images else f"_first_{row['examples']}"
        metrics[f"{name}{few}"] = row["robust_accuracy"]
        if few and same is not None and (accuracy_on_few := on_images_of(study_dir, same, row)) is not None:
            metrics.setdefault(f"{_metric_name(same)}{few}", accuracy_on_few)
    return metrics


def _metric_name(row: Row) -> str:
    return f"test_robust_accuracy_{row['attack'].rpartition(':')[2]}"


def gap(result: Row, row: Row, kind: str, /) -> Estimate:
    """Return validation minus test accuracy of one checkpoint with its 95 % interval; see `difference`.

    Args:
        result: The trial's result row.
        row: Its like-for-like measurement on test.
        kind: `clean` or `robust`.
    """
    return difference(accuracy_of(result, f"val_{kind}"), accuracy_of(row, kind))


def _on_test(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["split"] == "test"]


def _strength(row: Row) -> tuple[Any, ...]:
    attack = row["attack"]
    rank = _STRENGTH.index(attack) if attack in _STRENGTH else _STRENGTH.index("pgd") + 0.5
    return rank, row["steps"] * row["restarts"], row["examples"], row["checks"] == "full"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _listed(trials: Sequence[str], *, most: int = 12) -> str:
    more = f" and {len(trials) - most} more" if len(trials) > most else ""
    return ", ".join(trials[:most]) + more
