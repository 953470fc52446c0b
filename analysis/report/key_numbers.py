"""The four numbers at the top of the report."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.fronts.front import front_hypervolume, front_of
from analysis.fronts.member_choice import best_at_floor
from analysis.fronts.objectives import FRONT, values
from analysis.material import StudyMaterial
from analysis.method_styles import short_name
from analysis.statistics.association import LEAST, LIPSCHITZ, OUTCOMES, lipschitz_associations, random_share
from analysis.statistics.intervals import accuracy_of
from analysis.wording import why_no_front


@dataclass(frozen=True, kw_only=True)
class KeyNumber:
    """One of the numbers.

    Args:
        label: What it is.
        value: The number as text.
        note: Its interval, and what it rests on.
        floor: Of the most robust member, the least clean accuracy that was asked for; None for the others.
    """

    label: str
    value: str
    note: str
    floor: float | None = None


def key_numbers(material: StudyMaterial, /) -> list[KeyNumber]:
    """Return the front's size, its best robust accuracy at a clean floor, its hypervolume, and the rank correlation.

    Without a front the second and third are left out; the notes say why there is none, or no correlation.
    """
    table, front = material.table, front_of(material.table)
    size = f"of {table.num_rows} trial{'s' * (table.num_rows != 1)}"
    if (best := best_at_floor(values(front, FRONT))) is None:
        return [
            KeyNumber(label="On the front", value="0", note=f"{size}: {why_no_front(table)}"),
            _correlation(material),
        ]
    row = front.slice(best.index, 1).to_pylist()[0]
    volume = front_hypervolume(table, reference=material.reference)
    believed = (
        "as measured; an interval needs the outcome of each example"
        if material.belief is None
        else f"as measured; of the true accuracies {material.belief.hypervolume(reference=volume.reference)}"
    )
    return [
        KeyNumber(label="On the front", value=str(front.num_rows), note=size),
        KeyNumber(
            label="Best robust at clean ≥",
            value=f"{best.robust:.3f}",
            note=member_note(row),
            floor=best.floor,
        ),
        KeyNumber(label="Hypervolume", value=f"{volume.value:.4f}", note=believed),
        _correlation(material),
    ]


def member_note(row: dict[str, object], /) -> str:
    """Return the interval of a member's robust accuracy, its id and its method."""
    interval = str(accuracy_of(row, "val_robust")).partition(" ")[2]
    return f"{interval} · trial {row['trial_id']}, {short_name(str(row['method']))}"


def _correlation(material: StudyMaterial) -> KeyNumber:
    """Return the rank correlation that the chart beside the front shows."""
    label = "Lipschitz-robust rank correlation"
    share, outcome = random_share(material.table), next(iter(OUTCOMES.values()))
    rows = [row for row in lipschitz_associations(share) if (row.among, row.outcome) == ("all methods", outcome)]
    raw, scale_free = ({row.of: row.found for row in rows}.get(of) for of in LIPSCHITZ.values())
    if raw is None:
        needed = f"it needs {LEAST} independent proposals, here are {share.num_rows}"
        few = needed if share.num_rows < LEAST else "too few independent proposals, or they vary too little"
        return KeyNumber(label=label, value="none yet", note=few)
    value, _, interval = raw.signed(digits=2).partition(" ")
    other = "" if scale_free is None else f"; scale-free {scale_free.signed(digits=2)}"
    return KeyNumber(label=label, value=value, note=f"{interval} raw{other}; n = {raw.n} independent proposals")
