"""Reports of synthetic rows, and their text."""

from __future__ import annotations

import json
import re
from typing import Any

from helpers.studies.synthetic_results import as_table

from analysis.material import StudyMaterial
from analysis.report.page import build_report

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
