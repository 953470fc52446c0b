"""Tables of measurements on test and of new seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.heldout.confirmation import KINDS, ConfirmedMember
from analysis.heldout.measurements import Row, attack_name, doubts_on_test, strongest
from analysis.heldout.members import HeldoutResults, curse_lines
from analysis.method_styles import styles_for
from analysis.statistics.intervals import accuracy_of
from analysis.tables.text_table import TextTable
from analysis.wording import LOWER_BOUND, own_parameters, radius


def confirmation_table(members: Sequence[ConfirmedMember], /, *, notes: Sequence[str] = ()) -> TextTable:
    """Return validation, test, winner's curse and spread between seeds.

    Three lines per member: clean and robust accuracy, and the mean local Lipschitz estimate.
    """
    cells = []
    for one in members:
        row, test = one.result, one.test
        for kind in KINDS:
            spread, curse = one.spread.get(kind), one.curse.get(kind)
            cells.append(
                (
                    row["trial_id"],
                    row["method"],
                    kind,
                    row[f"val_{kind}_accuracy"],
                    _value(test, kind),
                    None if curse is None else curse.signed(),
                    *(
                        (None,) * 4
                        if spread is None
                        else (spread.mean, spread.sd, spread.sd_of_examples, spread.sd_of_seeds)
                    ),
                    "" if spread is None else f"{spread.seeds}{f' ({one.failed} failed)' if one.failed else ''}",
                )
            )
        cells.append(_lipschitz_cells(one))
    headings = ("trial", "method", "measure", "val", "test", "winner's curse", "seeds mean", "seeds sd")
    return TextTable(
        title="Chosen on validation, shown on test",
        headings=(*headings, "sd of examples", "sd of seeds", "seeds n"),
        formats=("", "", "", ".4f", "", "", ".4f", ".4f", ".4f", ".4f", ""),
        rows=tuple(cells),
        notes=(
            "winner's curse: val - test of one and the same checkpoint, under the same attack; 95 % intervals of the "
            "examples",
            "seeds: the same settings trained with n new seeds, on test; sd: between them as measured; sd of examples: "
            "due to the number of test examples alone; sd of seeds: the rest",
            f"Lipschitz: mean, {LOWER_BOUND}; no member is chosen by it, so it has no winner's curse",
            *notes,
        ),
    )


def _lipschitz_cells(one: ConfirmedMember) -> tuple[str | None, ...]:
    row, seeds = one.result, one.seeds_lipschitz
    values = (row["val_lipschitz_mean"], one.lipschitz)
    cells = [None if value is None else f"{value:.4g}" for value in values]
    mean = f"{np.mean(seeds):.4g}" if seeds else None
    sd = f"{np.std(seeds, ddof=1):.4g}" if len(seeds) > 1 else None
    return (row["trial_id"], row["method"], "Lipschitz", *cells, "", mean, sd, None, None, str(len(seeds) or ""))


def evaluation_table(results: Sequence[Row], rows: Sequence[Row], /) -> TextTable:
    """Return evaluation rows as a table with their trials' validation values.

    Args:
        results: Result rows of the trials.
        rows: Evaluation rows, in the order to show.
    """
    by_trial = {(row["study"], row["trial_id"]): row for row in results}
    cells = []
    for row in rows:
        trial = by_trial.get((row["study"], row["trial_id"]), {})
        prefix = "val" if row["checkpoint"] == trial.get("checkpoint_kind") else f"{row['checkpoint']}_val"
        cells.append(
            (
                row["trial_id"],
                row["method"],
                row["checkpoint"],
                trial.get(f"{prefix}_clean_accuracy"),
                _value(row, "clean"),
                trial.get(f"{prefix}_robust_accuracy"),
                _value(row, "robust"),
                attack_name(row),
                _radius(row, trial),
                row["examples"],
                row["lipschitz_mean"],
                ", ".join(row["flags"]),
            )
        )
    headings = ("trial", "method", "weights", "clean (val)", "clean (test)", "robust (val)", "robust (test)", "attack")
    return TextTable(
        title="On test",
        headings=(*headings, "ε", "images", "Lipschitz (test)", "flags"),
        formats=("", "", "", ".4f", "", ".4f", "", "", "", "d", ".4g", ""),
        rows=tuple(cells),
        notes=(
            "95 % Wilson intervals of the examples. Robust (val) is always under the study's own attack at its own "
            "radius",
        ),
    )


def _radius(row: Row, trial: Row) -> str:
    """Return a measurement's radius, with its norm if that is not the trial's own."""
    norm = row["norm"]
    return radius(row["epsilon"]) + (f" in {norm}" if norm != trial.get("norm", norm) else "")


def on_test_table(on_test: HeldoutResults, /) -> TextTable:
    """Return the members' validation and test values, a line each; the choice is not changed."""
    styles = styles_for(one.result["method"] for one in on_test.members)
    cells = []
    for one in on_test.members:
        row, test, strong = one.result, one.test, strongest(one.result, on_test.evaluations)
        cells.append(
            (
                row["trial_id"],
                styles[row["method"]].label,
                row.get("param.dropout"),
                own_parameters(row),
                *(cell for kind in KINDS for cell in (row[f"val_{kind}_accuracy"], _value(test, kind))),
                "" if strong is None else f"{attack_name(strong)}, {strong['examples']} images",
                _value(strong, "robust"),
                _on_the_same(one, strong, on_test),
                one.lipschitz,
                *(f"{seeds} ({seeds.seeds})" if (seeds := one.spread.get(kind)) else "" for kind in KINDS),
                _seeds_lipschitz(one.seeds_lipschitz),
                "front" if row["trial_id"] in on_test.chosen else "by name",
            )
        )
    headings = ("trial", "method", "dropout", "strength", "clean (val)", "clean (test)", "robust (val)")
    names = ("robust (test)", "strongest attack", "robust (test, strongest)", "on its images", "Lipschitz (test)")
    return TextTable(
        title="The front chosen on validation, at its test values",
        headings=(*headings, *names, "clean (seeds)", "robust (seeds)", "Lipschitz (seeds)", "chosen"),
        formats=("", "", ".3f", "", ".4f", "", ".4f", "", "", "", "", ".4g", "", "", "", ""),
        rows=tuple(cells),
        notes=(
            "95 % Wilson intervals of the examples; robust (val) and (test) are of one checkpoint under one attack",
            "seeds: mean ± standard deviation of n new seeds of the same settings, on test",
            *curse_lines(on_test),
            *_fewer_images(on_test),
            *_doubts(on_test),
            *[f"chosen on validation too, not measured on test: {', '.join(on_test.waiting)}"] * bool(on_test.waiting),
        ),
    )


def _fewer_images(on_test: HeldoutResults) -> list[str]:
    """Describe the accuracy under the like-for-like attack on the images of stronger attacks, if those differ."""
    accuracies = []
    for one in on_test.members:
        trial = one.result["trial_id"]
        if trial in on_test.same_images and one.test is not None:
            like_for_like, strong = on_test.same_images[trial], strongest(one.result, on_test.evaluations)
            accuracy = "not known" if like_for_like is None else f"{like_for_like:.4f}"
            if strong is not None:
                clean = f"clean accuracy {strong['clean_accuracy']:.4f}"
                accuracies.append(f"{trial} {accuracy} ({strong['examples']} images, {clean})")
    if not accuracies:
        return []
    listed = "; ".join(accuracies)
    return [f"robust (test, strongest) is on other images than robust (test), whose attack gives on those: {listed}"]


def _on_the_same(one: ConfirmedMember, strong: Row | None, on_test: HeldoutResults) -> str:
    """Return clean and like-for-like robust accuracy on the strongest attack's images, if those differ."""
    trial = one.result["trial_id"]
    if strong is None or (one.test is not None and trial not in on_test.same_images):
        return ""
    like_for_like = on_test.same_images.get(trial)
    attack = "" if like_for_like is None or one.test is None else f", {attack_name(one.test)} {like_for_like:.3f}"
    return f"clean {strong['clean_accuracy']:.3f}{attack}"


def _doubts(on_test: HeldoutResults) -> list[str]:
    flagged = {one.result["trial_id"]: doubts_on_test(one.result, on_test.evaluations) for one in on_test.members}
    named = [f"{trial}: {', '.join(flags)}" for trial, flags in flagged.items() if flags]
    return [f"flagged on test: {'; '.join(named)}"] if named else []


def _value(row: Row | None, kind: str) -> str | None:
    return None if row is None else str(accuracy_of(row, kind))


def _seeds_lipschitz(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3g}" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{spread} ({len(values)})"
