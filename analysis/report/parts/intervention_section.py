"""The report's section on an intervention, for studies whose grid varies a method's strength with several seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import front_hypervolume, front_of
from analysis.method_styles import PAPER_METHODS, short_name
from analysis.plots.studies.dose_response import dose_response_svg
from analysis.report.parts.html import paragraph, table_html
from analysis.statistics.intervention import Experiment, dose_label, experiment_of
from analysis.tables.intervention_tables import intervention_tables


def intervention_section(table: Table, /, *, reference: Mapping[str, float] | None = None) -> list[str]:
    """Return the section's parts; none for a study without such a grid.

    Args:
        table: Result rows.
        reference: Reference values of the hypervolume, by objective.
    """
    experiment = experiment_of(table)
    if experiment is None:
        return []
    label = "Lipschitzness, robust and clean accuracy over each method's dose"
    return [
        paragraph(_opening(experiment)),
        f'<figure class="fronts" role="img" aria-label="{label}">{dose_response_svg(experiment)}</figure>',
        *(table_html(each.text()) for each in intervention_tables(experiment).values()),
        *_fronts(table, reference),
    ]


def _opening(experiment: Experiment) -> str:
    doses = ", ".join(f"{dose_label(name)} of {short_name(method)}" for method, name in experiment.names.items())
    return (
        f"The study set {doses} itself, in random order and with several seeds each, so that differences between doses "
        f"are their effects. {experiment.table.num_rows} completed trials of these methods and of natural training "
        "are used; trials that failed, were stopped or whose measurement is flagged are missing, which may depend on "
        "the dose. Flagged for catastrophic overfitting alone they count: weak doses often are."
    )


def _fronts(table: Table, reference: Mapping[str, float] | None) -> list[str]:
    """Return a sentence on the front with and without the methods that the paper does not have."""
    of_paper = np.isin(table["method"].to_pylist(), PAPER_METHODS)
    if of_paper.all() or not of_paper.any():
        return []
    parts = {"the paper's methods": table.filter(of_paper), "all methods": table}
    volumes = {of: front_hypervolume(part, reference=reference).value for of, part in parts.items()}
    fronts = {of: front_of(part) for of, part in parts.items()}
    new = [method for method in fronts["all methods"]["method"].to_pylist() if method not in PAPER_METHODS]
    whose = ", ".join(dict.fromkeys(map(short_name, new))) or "none"
    each = " and that of ".join(
        f"{of} has {fronts[of].num_rows} members and hypervolume {volume:.4f}" for of, volume in volumes.items()
    )
    return [
        paragraph(
            f"The front of {each}; {len(new)} of its members are of methods that the paper does not have ({whose}). "
            "More trials never lower a hypervolume."
        )
    ]
