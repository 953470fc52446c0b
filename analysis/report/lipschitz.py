"""The report's section on Lipschitzness: associations among independent proposals, and the data set's separation."""

from __future__ import annotations

from analysis.association import Association, Row, dropout_effects, lipschitz_associations, random_share
from analysis.report.html import paragraph, table_html
from analysis.report.material import Material
from analysis.tables import TextTable
from analysis.wording import radius


def lipschitz_section(material: Material, /) -> list[str]:
    """Return the section's parts, or that nothing can be said without independent proposals."""
    share = random_share(material.table)
    text = (
        f"Of {material.table.num_rows} trials {share.num_rows} sound ones were proposed independently of results; only "
        "they enter here. Spearman's rank correlations with 95 % intervals (Bonett and Wright); “within method” takes "
        "each method's mean rank out. Association, not cause."
    )
    if not share.num_rows:
        text = (
            "No sound trial was proposed independently of results (search.random_fraction), so nothing is said here: "
            "where a sampler follows the outcome, settings and outcomes go together by themselves."
        )
        return [paragraph(text), *_separation(material)]
    return [
        paragraph(text),
        _associations("Local Lipschitzness and …", lipschitz_associations(share), "rank correlation"),
        _associations("What 0.1 more dropout goes with", dropout_effects(share), "change of the outcome"),
        paragraph(
            "Slopes by least squares with a level for each method and HC3 intervals; “at matched Lipschitzness” the "
            "line also takes log10 of the scale-free estimate, straight and squared."
        ),
        *_separation(material),
    ]


def _associations(title: str, rows: list[Row], unit: str) -> str:
    def shown(found: Association | None) -> str:
        return "" if found is None else f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"

    cells = tuple(
        (row.of, row.outcome, row.among, shown(row.found), row.found.n if row.found else None) for row in rows
    )
    headings = ("of", "with", "among", unit, "n")
    return table_html(TextTable(title=title, headings=headings, formats=("", "", "", "", "d"), rows=cells))


def _separation(material: Material) -> list[str]:
    radii = sorted(set(material.table["eval_epsilon"].to_pylist()))
    if material.separation is None or not material.separation.num_rows or not radii:
        return [
            paragraph(
                "The separation of the data set is not in this folder: `robust-study separation` measures 2r, and up "
                "to the radius r a classifier that is accurate and robust (and smooth) exists."
            )
        ]
    known = [value for value in material.separation["distance"].to_pylist() if value is not None]
    r = min(known) / 2
    side = "inside" if radii[-1] < r else "outside"
    return [
        paragraph(
            f"Separation of the data set: 2r = {2 * r:.4g}. Up to radius r = {r:.4g} a classifier that is accurate, "
            f"robust and smooth exists; this study's radius {radius(radii[-1])} lies {side} that reach."
        )
    ]
