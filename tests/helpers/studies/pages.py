"""Reports of synthetic rows, and their text."""

from __future__ import annotations

import re
from typing import Any

from helpers.studies.synthetic_results import as_table

from analysis.report.page import Material, build_report

SCRIPTS = re.compile(r"<script.*?</script>", re.DOTALL)


def page_of(rows: list[dict[str, Any]], **more: Any) -> str:
    """Return the report of these rows; `more` is what else `Material` takes."""
    return build_report(Material(title="toy", table=as_table(rows), **more))


def text_of(page: str) -> str:
    """Return a page's text, without scripts and tags."""
    return re.sub(r"<[^>]+>", " ", SCRIPTS.sub("", page))
