"""The report's section on Lipschitzness: associations among independent proposals, and the data set's separation."""

from __future__ import annotations

from analysis.data.results import Table
from analysis.material import StudyMaterial
from analysis.plots.trials.trial_points import MOST_POINTS
from analysis.report.html import paragraph, table_html
from analysis.statistics.association import (
    LEAST,
    AssociationRow,
    dropout_effects,
    independent,
    lipschitz_associations,
    random_share,
)
from analysis.statistics.separated_classifier import classifier_point
from analysis.tables.text_table import TextTable
from analysis.wording import radius


def lipschitz_section(material: StudyMaterial, /) -> list[str]:
    """Return the section's parts; without independent proposals, the reason that there are no associations."""
    share = random_share(material.table)
    text = _sample(material.table, share)
    if not share.num_rows:
        text = (
            "No sound trial was proposed independently of results (search.random_fraction), so there is no association "
            "to report: a sampler that follows the outcome makes settings and outcomes correlate by itself."
        )
        return [paragraph(text), _CHART, *_separation(material)]
    return [
        paragraph(text),
        _CHART,
        _associations("Local Lipschitzness and …", lipschitz_associations(share), "rank correlation"),
        _associations("Association with dropout (+0.1)", dropout_effects(share), "change of the outcome"),
        paragraph(
            "Slopes by least squares with an intercept for each method of a study and HC3 intervals; “at matched "
            "Lipschitzness” also controls for log10 of the scale-free estimate and its square."
        ),
        *_separation(material),
    ]


def _sample(table: Table, share: Table) -> str:
    """Describe the trials that the associations use, those missing, and the statistics."""
    proposed = int(independent(table).sum())
    missing = (
        f" ({proposed - share.num_rows} more failed, were stopped or flagged, which may depend on the outcome)"
        if proposed > share.num_rows
        else ""
    )
    several = "; each study is ranked separately" if len(set(table["study"].to_pylist())) > 1 else ""
    return (
        f"Of {table.num_rows} trials {share.num_rows} sound ones were proposed independently of results{missing}; only "
        "they are used here. Spearman's rank correlations with 95 % intervals (Bonett and Wright); “within method” "
        f"ranks each method's trials among themselves{several}. Association, not cause."
    )


def _associations(title: str, rows: list[AssociationRow], unit: str) -> str:
    cells = tuple(
        (row.of, row.outcome, row.among, row.found.signed() if row.found else None, row.found.n if row.found else row.n)
        for row in rows
    )
    headings = ("of", "with", "among", unit, "n")
    missing = any(row.found is None for row in rows)
    notes = (f"-: fewer than {LEAST} trials after subtracting one per intercept, or nothing varies",) if missing else ()
    return table_html(TextTable(title=title, headings=headings, formats=("", "", "", "", "d"), rows=cells, notes=notes))


_CHART = (
    '<div id="smooth" class="chart" role="img" aria-label="Outcomes against local Lipschitzness"></div>'
    '<p class="note">Above each panel: Spearman\'s rank correlation, 95 %. Ringed: the front; full: proposals that did '
    "not depend on results, on which alone the correlations rest; pale: the sampler's own; hollow: flagged, stopped "
    f"early or infeasible. A panel draws the front and at most {MOST_POINTS} other trials, evenly thinned.</p>"
    "<h3>Each method's front in robust accuracy and Lipschitzness</h3>"
    '<div id="fronts" class="chart" role="img" aria-label="Lipschitzness over robust accuracy by method"></div>'
    '<p class="note">Lines: the method\'s own front (no trial of it is at once more robust and smoother), broad and '
    "grey that of all methods. Ringed: the front of clean and robust accuracy.</p>"
)


def _separation(material: StudyMaterial) -> list[str]:
    if (point := classifier_point(material.classifier, material.table)) is not None:
        return [paragraph(f"{point.sentence}; it is the star in the chart of the front.")]
    radii = sorted(set(material.table["eval_epsilon"].to_pylist()))
    reach = material.reach()
    if reach is None or not radii:
        names = " | ".join(dict.fromkeys(material.table["dataset"].to_pylist()))
        return [
            paragraph(
                "The separation 2r of the data set is not measured, so the radii covered by the theorem are not drawn; "
                f"measure it with `robust-study separation {names} --out STUDY_DIR/separation`, or on this study's own "
                "images, with the theorem's classifier, with `robust-study separation STUDY_DIR`. Up to the radius r a "
                "classifier that is accurate, robust and smooth exists."
            )
        ]
    side = "inside" if radii[-1] < reach.radius else "outside"
    contradicting = (
        f"{reach.contradicting} of its images equal one of another label, so 2r = 0 with them; without them "
        if reach.contradicting
        else ""
    )
    return [
        paragraph(
            f"Separation of the data set: {contradicting}2r = {2 * reach.radius:.4g} over {reach.examples} images. At "
            f"radii below r = {reach.radius:.4g} a classifier of these images that is accurate, robust and smooth "
            f"exists; this study's radius {radius(radii[-1])} lies {side} that range, which is grey in the chart of "
            "accuracy against the radius."
        )
    ]
