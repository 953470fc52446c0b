"""Reports of synthetic rows, and their text."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from helpers.studies.synthetic_results import as_table

from analysis.fronts.objectives import FRONT
from analysis.material import StudyMaterial
from analysis.report.page import build_report
from analysis.statistics.front_posterior import FrontPosterior

SCRIPTS = re.compile(r"<script.*?</script>", re.DOTALL)


def page_of(rows: list[dict[str, Any]], **more: Any) -> str:
    """Return the report of these rows; `more` are further arguments of `StudyMaterial`."""
    return build_report(StudyMaterial(table=as_table(rows), **more))


def json_of(page: str, name: str) -> Any:
    """Return the data in one of a page's script elements: `labels`, or a figure."""
    element = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert element is not None, name
    return json.loads(element[1])


def text_of(page: str) -> str:
    """Return a page's text, without scripts and tags."""
    return re.sub(r"<[^>]+>", " ", SCRIPTS.sub("", page))


def belief_of(rows: list[dict[str, Any]]) -> FrontPosterior:
    """Return what draws around the rows' own accuracies give as the posterior of their front."""
    sound = [row for row in rows if row["status"] == "completed" and not row["flags"]]
    accuracies = np.array([[row[name] for name in FRONT] for row in sound])
    drawn = np.clip(accuracies + np.random.default_rng(0).normal(0, 0.01, (50, *accuracies.shape)), 0, 1)
    ids = tuple(row["trial_id"] for row in sound)
    return FrontPosterior(trials=ids, drawn=drawn, probability=np.full(len(ids), 0.3), left_out=0)
