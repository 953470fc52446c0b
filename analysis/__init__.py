"""Result files, objectives, fronts, tables and figures of a study. Imports nothing else of this project.

The names of docs/analysis.md are here too; each loads its module when it is first used.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.data.combine import read_studies as read_studies
    from analysis.data.results import read_evaluations as read_evaluations
    from analysis.data.results import read_examples as read_examples
    from analysis.fronts.front import feasible as feasible
    from analysis.fronts.front import front_hypervolume as front_hypervolume
    from analysis.fronts.front import front_of as front_of
    from analysis.fronts.front import with_mixed_allowed as with_mixed_allowed
    from analysis.fronts.growth import hypervolume_growth as hypervolume_growth
    from analysis.fronts.member_choice import fronts_by as fronts_by
    from analysis.fronts.member_choice import knee_of as knee_of
    from analysis.fronts.member_choice import nearest_member as nearest_member
    from analysis.fronts.objectives import FRONT as FRONT
    from analysis.fronts.objectives import directions as directions
    from analysis.fronts.objectives import values as values
    from analysis.heldout.members import read_on_test as read_on_test
    from analysis.plots.studies.study_figures import paper_sheets as paper_sheets
    from analysis.plots.trials.pareto import write_pareto as write_pareto
    from analysis.statistics.association import dropout_effects as dropout_effects
    from analysis.statistics.association import lipschitz_associations as lipschitz_associations
    from analysis.statistics.association import random_share as random_share
    from analysis.statistics.front_posterior import front_belief as front_belief
    from analysis.statistics.intervals import outcomes as outcomes
    from analysis.statistics.intervals import wilson_interval as wilson_interval
    from analysis.tables.paper_table import paper_table as paper_table
    from analysis.tables.paper_table import write_paper_table as write_paper_table

_NAMES = {
    "data.combine": ("read_studies",),
    "data.results": ("read_evaluations", "read_examples"),
    "fronts.front": ("feasible", "front_hypervolume", "front_of", "with_mixed_allowed"),
    "fronts.growth": ("hypervolume_growth",),
    "fronts.member_choice": ("fronts_by", "knee_of", "nearest_member"),
    "fronts.objectives": ("FRONT", "directions", "values"),
    "heldout.members": ("read_on_test",),
    "plots.studies.study_figures": ("paper_sheets",),
    "plots.trials.pareto": ("write_pareto",),
    "statistics.association": ("dropout_effects", "lipschitz_associations", "random_share"),
    "statistics.front_posterior": ("front_belief",),
    "statistics.intervals": ("outcomes", "wilson_interval"),
    "tables.paper_table": ("paper_table", "write_paper_table"),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    close = difflib.get_close_matches(name, _MODULES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted(_MODULES)
