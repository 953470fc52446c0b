"""What was measured on test: each trial's strongest attack, its like-for-like measure, and how often test was used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.data.results import read_examples, trial_file
from analysis.data.schema import EVALUATION, EXAMPLE, ResultsError
from analysis.statistics.intervals import Estimate, accuracy_estimate, difference
from analysis.wording import NORMS, radius

Row = Mapping[str, Any]

_STRENGTH = ("fgsm", "pgd", "multi_targeted", "autoattack")
"""Known attacks, weakest first; one of a user's own stands between the second and the third."""

_SETTINGS = ("checkpoint", "attack", "norm", "epsilon", "steps", "restarts", "examples", "checks")


@dataclass(frozen=True, kw_only=True)
class Use:
    """Measurements on test that share their settings.

    Args:
        settings: What was measured, in words.
        trials: Ids of the trials, in order.
        occasions: Commands that measured them.
    """

    settings: str
    trials: tuple[str, ...]
    occasions: int


def examples_file(study_dir: str | Path, evaluation: str, /) -> Path:
    """Return where the per-example outcomes of a measurement lie, by the name that its row has under `evaluation`."""
    file = trial_file(study_dir, evaluation, schema=EVALUATION)
    return file.parent / EXAMPLE.folder / file.name


def settings_phrase(row: Row, /) -> str:
    """Return how a row was measured, "PGD, 10 steps, 1 restart, norm, ε = 0.1, 300 images"."""
    attack = str(row["attack"])
    effort = f"{row['steps']} step{'s' * (row['steps'] != 1)}, {row['restarts']} restart{'s' * (row['restarts'] != 1)}"
    if attack == "autoattack":
        effort = f"standard set after PGD ({effort})"
    norm = NORMS.get(row["norm"], row["norm"])
    name = attack.upper() if attack in ("pgd", "fgsm") else attack
    return f"{name}, {effort}, {norm}, ε = {radius(row['epsilon'])}, {row['examples']} images"


def uses_of_test(rows: Sequence[Row], /) -> list[Use]:
    """Return the uses of test data by their settings, in order of first use.

    Args:
        rows: Evaluation rows; each is one use.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(_on_test(rows), key=lambda row: (row["occasion"] or "", row["number"])):
        groups.setdefault(tuple(row[name] for name in _SETTINGS), []).append(row)
    return [
        Use(
            settings=f"{settings_phrase(found[0])}, {found[0]['checkpoint']} checkpoint, {found[0]['checks']} checks",
            trials=tuple(dict.fromkeys(row["trial_id"] for row in found)),
            occasions=len({row["occasion"] for row in found}),
        )
        for found in groups.values()
    ]


def uses_lines(rows: Sequence[Row], /) -> list[str]:
    """Return the uses of test data in words: one line that counts them, and one for each setting."""
    tested = _on_test(rows)
    if not tested:
        return ["test data was never used"]
    trials, occasions = ({row[name] for row in tested} for name in ("trial_id", "occasion"))
    first = (
        f"test data was used {_times(len(tested))}: {len(trials)} network{'s' * (len(trials) != 1)} measured on "
        f"{len(occasions)} occasion{'s' * (len(occasions) != 1)}"
    )
    return [first, *(f"{len(use.trials)} x {use.settings}: {_listed(use.trials)}" for use in uses_of_test(rows))]


def like_for_like(result: Row, rows: Sequence[Row], /) -> Row | None:
    """Return the measurement on test of a trial's own checkpoint that differs from validation in the split alone.

    Args:
        result: The trial's result row.
        rows: Evaluation rows.

    Returns:
        The one of most images; None where there is none.
    """
    return max(alike(result, rows), key=lambda row: (row["examples"], row["checks"] == "full"), default=None)


def alike(result: Row, rows: Sequence[Row], /) -> list[Row]:
    """Return every such measurement, on however many images; see `like_for_like`."""
    wanted = {"attack": result["attack"], "steps": result["steps"], "restarts": result["restarts"]}
    return [row for row in on_own_checkpoint(result, rows) if all(row[name] == value for name, value in wanted.items())]


def on_own_checkpoint(result: Row, rows: Sequence[Row], /) -> list[Row]:
    """Return the measurements on test of a trial's own checkpoint at the study's own radius."""
    wanted = {
        "trial_id": result["trial_id"], "study": result["study"], "checkpoint": result["checkpoint_kind"],
        "norm": result["norm"], "epsilon": result["eval_epsilon"],
    }  # fmt: skip
    return [row for row in _on_test(rows) if all(row[name] == value for name, value in wanted.items())]


def lipschitz_on_test(result: Row, rows: Sequence[Row], /) -> float | None:
    """Return the mean local Lipschitz estimate of a trial's own checkpoint on test, that of most images."""
    best = lipschitz_row(result, rows)
    return None if best is None else float(best["lipschitz_mean"])


def lipschitz_row(result: Row, rows: Sequence[Row], /) -> Row | None:
    """Return the measurement on test of a trial's own checkpoint that holds its Lipschitz estimate of most images."""
    known = [row for row in on_own_checkpoint(result, rows) if row["lipschitz_mean"] is not None]
    return max(known, key=lambda row: row["lipschitz_examples"] or 0, default=None)


def doubts_on_test(result: Row, rows: Sequence[Row], /) -> list[str]:
    """Return every flag of a trial's measurements on test at the study's own radius, with its attack, sorted."""
    return sorted({f"{flag} ({attack_name(row)})" for row in on_own_checkpoint(result, rows) for flag in row["flags"]})


def strongest(result: Row, rows: Sequence[Row], /) -> Row | None:
    """Return the measurement on test under the strongest attack, at the study's own radius, on a trial's checkpoint.

    Stronger is the later of FGSM, PGD, multi-targeted, AutoAttack; then more steps and restarts; then more images.
    """
    return max(on_own_checkpoint(result, rows), key=_strength, default=None)


def attack_name(row: Row, /) -> str:
    """Return a row's attack with its effort, short enough for a column: `PGD-10x2`, `autoattack`."""
    attack = str(row["attack"])
    if attack == "autoattack":
        return attack
    name = attack.upper() if attack in ("pgd", "fgsm") else attack
    return f"{name}-{row['steps']}" + (f"x{row['restarts']}" if row["restarts"] != 1 else "")


def on_images_of(study_dir: str | Path, row: Row, other: Row, /) -> float | None:
    """Return a measurement's robust accuracy on the images of another one that has fewer.

    Args:
        study_dir: The folder that both measurements lie in.
        row: The measurement to be counted again.
        other: The one whose images count.

    Returns:
        None where per-example outcomes are lost, or `row` is not of all of those images.
    """
    files = [examples_file(study_dir, one["evaluation"]) for one in (row, other)]
    try:
        mine, theirs = (read_examples(file) for file in files)
    except (ResultsError, OSError):
        return None
    wanted = set(theirs["index"].to_pylist())
    found = dict(zip(mine["index"].to_pylist(), mine["robust_correct"].to_pylist(), strict=True))
    return sum(found[index] for index in wanted) / len(wanted) if wanted and wanted <= set(found) else None


def tracked_metrics(result: Row, rows: Sequence[Row], /, *, study_dir: str | Path) -> dict[str, float]:
    """Return what a trial's run in tracking shows of test: its like-for-like values, and what each attack left.

    What an attack left is `test_robust_accuracy_<attack>` where it was measured on `test_examples` images as the
    like-for-like values are, and `test_robust_accuracy_<attack>_first_<n>` where it was on n others: a few easy images
    must not look like a weak attack. Beside such a one stands the like-for-like attack on the same n. Of several
    measurements under one attack the strongest counts.

    Args:
        result: The trial's result row.
        rows: Evaluation rows.
        study_dir: The folder that the trial's measurements lie in.
    """
    found: dict[str, float] = {}
    same, measured = like_for_like(result, rows), on_own_checkpoint(result, rows)
    images = max((row["examples"] for row in measured), default=0) if same is None else same["examples"]
    if same is not None:
        found |= {f"test_{name}": same[name] for name in ("clean_accuracy", "robust_accuracy")}
    if measured:
        found["test_examples"] = images
    if (lipschitz := lipschitz_on_test(result, rows)) is not None:
        found["test_lipschitz_mean"] = lipschitz
    strongest_of = {_metric_name(row): row for row in sorted(measured, key=_strength)}
    for name, row in strongest_of.items():
        few = "" if row["examples"] == images else f"_first_{row['examples']}"
        found[f"{name}{few}"] = row["robust_accuracy"]
        if few and same is not None and (there := on_images_of(study_dir, same, row)) is not None:
            found.setdefault(f"{_metric_name(same)}{few}", there)
    return found


def _metric_name(row: Row) -> str:
    return f"test_robust_accuracy_{row['attack'].rpartition(':')[2]}"


def gap(result: Row, row: Row, kind: str, /) -> Estimate:
    """Return validation minus test accuracy of one checkpoint with its 95 % interval; see `difference`.

    Args:
        result: The trial's result row.
        row: Its like-for-like measurement on test.
        kind: `clean` or `robust`.
    """
    return difference(
        accuracy_estimate(result[f"val_{kind}_accuracy"], result["examples"]),
        accuracy_estimate(row[f"{kind}_accuracy"], row["examples"]),
    )


def _on_test(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["split"] == "test"]


def _strength(row: Row) -> tuple[Any, ...]:
    attack = row["attack"]
    rank = _STRENGTH.index(attack) if attack in _STRENGTH else 1.5
    return rank, row["steps"] * row["restarts"], row["examples"], row["checks"] == "full"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _listed(trials: Sequence[str], *, most: int = 12) -> str:
    more = f" and {len(trials) - most} more" if len(trials) > most else ""
    return ", ".join(trials[:most]) + more
