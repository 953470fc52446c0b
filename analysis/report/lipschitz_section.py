"""The report's section on Lipschitzness: associations among independent proposals, and the data set's separation."""

from __future__ import annotations

from collections.abc import Collection

from analysis.data.results import Table
from analysis.material import StudyMaterial
from analysis.method_styles import short_name
from analysis.plots.trials.trial_points import MOST_POINTS
from analysis.report.parts.charts import chart
from analysis.report.parts.html import paragraph, table_html
from analysis.statistics.association import (
    LEAST,
    AssociationRow,
    dropout_effects,
    independent,
    lipschitz_associations,
    random_share,
    why_no_association,
)
from analysis.statistics.networks.separated_classifier import classifier_point
from analysis.tables.text_table import TextTable
from analysis.wording import radius


def lipschitz_section(material: StudyMaterial, /, *, figures: Collection[str]) -> list[str]:
    """Return the section's parts; without any association, the reason in one sentence.

    Args:
        material: What is known of the study.
        figures: Names of the page's figures.
    """
    share = random_share(material.table)
    smoothness, dropout = lipschitz_associations(share), dropout_effects(share)
    if any(row.found for row in [*smoothness, *dropout]):
        associations = [
            paragraph(f"{_sample(material.table, share)} {_statistics(material.table)}"),
            _associations("Local Lipschitzness and …", smoothness, "rank correlation"),
            _associations("Association with dropout (+0.1)", dropout, "change of the outcome"),
            paragraph(
                "Slopes by least squares with an intercept for each method of a study and HC3 intervals; “at matched "
                "Lipschitzness” also controls for log10 of the scale-free estimate and its square."
            ),
        ]
    else:
        sample = [paragraph(_sample(material.table, share))] if share.num_rows else []
        associations = [paragraph(why_no_association(material.table)), *sample]
    return [*associations, *_charts(figures), *_separation(material)]


def _sample(table: Table, share: Table) -> str:
    """Describe the trials that associations use, and those missing."""
    proposed = int(independent(table).sum())
    missing = (
        f" ({proposed - share.num_rows} more failed, were stopped or flagged, which may depend on the outcome)"
        if proposed > share.num_rows
        else ""
    )
    return f"Of {table.num_rows} trials {share.num_rows} sound ones were proposed independently of results{missing}."


def _statistics(table: Table) -> str:
    several = "; each study is ranked separately" if len(set(table["study"].to_pylist())) > 1 else ""
    return (
        "Only they are used here. Spearman's rank correlations with 95 % intervals (Bonett and Wright); “within "
        f"method” ranks each method's trials among themselves{several}. Association, not cause."
    )


def _associations(title: str, rows: list[AssociationRow], unit: str) -> str:
    """Return the associations that are known as a table, and a sentence on the others."""
    cells = tuple((row.of, row.outcome, row.among, row.found.signed(), row.found.n) for row in rows if row.found)
    missing = [row for row in rows if row.found is None]
    among = ", ".join(dict.fromkeys(short_name(row.among) for row in missing))
    notes = (
        f"{len(missing)} more are not known ({among}): fewer than {LEAST} trials after subtracting one per intercept, "
        "or nothing varies; more independent proposals would show them.",
    )
    headings = ("of", "with", "among", unit, "n")
    table = TextTable(
        title=title,
        headings=headings,
        formats=("", "", "", "", "d"),
        rows=cells,
        notes=notes if missing else (),
    )
    return table_html(table)


def _charts(figures: Collection[str]) -> list[str]:
    rings = "Ringed: the front of clean and robust accuracy."
    return [
        *chart(
            "smooth",
            "Outcomes against local Lipschitzness",
            figures=figures,
            note="Above each panel: Spearman's rank correlation, 95 %. Ringed: the front; full: proposals that did not "
            "depend on results, on which alone the correlations rest; pale: the sampler's own; hollow: flagged, "
            "stopped early or infeasible. A panel draws the front and at most "
            f"{MOST_POINTS} other trials, evenly thinned.",
            instead="Lipschitzness was not measured, so there are no charts of it.",
        ),
        *(["<h3>Each method's front in robust accuracy and Lipschitzness</h3>"] if "fronts" in figures else []),
        *chart(
            "fronts",
            "Lipschitzness over robust accuracy by method",
            figures=figures,
            note="Lines: the method's own front (no trial of it is at once more robust and smoother), broad and grey "
            f"that of all methods. {rings}",
        ),
        *(["<h3>Clean and robust accuracy and Lipschitzness in space</h3>"] if "solid" in figures else []),
        *chart(
            "solid",
            "Clean and robust accuracy, with Lipschitzness as third axis",
            figures=figures,
            note="Colour: the method; triangles are drawn as ◆. The axes are chosen above, beside the front.",
        ),
    ]


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
