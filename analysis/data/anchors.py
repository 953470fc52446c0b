"""Published results in the form of RobustBench's files on models, to be drawn behind a front of equal threat model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from analysis.data.results import Table
from analysis.data.schema import ResultsError

MOST_BYTES = 1_000_000
"""Largest file that is read."""

MOST_ANCHORS = 1000
"""Most published results in one figure."""

_NORMS = {"linf": "linf", "l2": "l2"}
_NUMBER = re.compile(r"\d{1,6}(\.\d{1,20})?(/0{0,5}[1-9]\d{0,5})?", re.ASCII)
_LETTERS = 100


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """One published network.

    Args:
        name: Its paper, and its architecture where that is given.
        clean: Clean accuracy on test, in [0, 1].
        robust: The lowest robust accuracy on test that is known, in [0, 1].
    """

    name: str
    clean: float
    robust: float


def read_anchors(path: str | Path, table: Table, /) -> list[Anchor]:
    """Read published results of the data set and threat model of a study.

    The fields read are `dataset`, `eps` ("8/255"), `clean_acc`, `autoattack_acc` and `external` (percent; of the last
    two the lower), `name`, `architecture`, and `threat_model` ("Linf" or "L2"). RobustBench names the last one by the
    file's folder, which counts where the field is missing.

    Args:
        path: A file with one such object or a list of them, or a folder of such files.
        table: Result rows of the study.

    Raises:
        ResultsError: A file that cannot be read, is too large or is no such JSON, or a result of another data set, norm
            or radius; the message names file and field.
    """
    source = Path(path)
    files = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not files:
        raise ResultsError(f"{source} must be a JSON file or hold *.json files, but has none")
    own = {name: sorted(set(table[name].to_pylist())) for name in ("dataset", "norm", "eval_epsilon")}
    anchors = []
    for file in files:
        tree = _tree(file)
        for entry in tree if isinstance(tree, list) else [tree]:
            anchors.append(_anchor(entry, own, file))
            if len(anchors) > MOST_ANCHORS:
                raise ResultsError(f"{source} holds more than {MOST_ANCHORS} published results: give fewer")
    if not anchors:
        raise ResultsError(f"{source} holds no published result")
    return anchors


def _tree(file: Path) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"the number {constant}")

    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ResultsError(f"{file} must have at most {MOST_BYTES:,} bytes")
        return json.loads(content.decode("utf-8-sig"), parse_constant=refuse)
    except OSError as error:
        raise ResultsError(f"{file} cannot be read: {error.strerror or error}") from error
    except ResultsError:
        raise
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{file} must be JSON as RobustBench's model_info has it ({error})") from error


def _anchor(entry: Any, own: Mapping[str, list[Any]], file: Path) -> Anchor:
    if not isinstance(entry, Mapping):
        raise ResultsError(f"{file} must hold an object, or a list of objects, got {type(entry).__name__}")
    norm = _NORMS.get(str(entry.get("threat_model", file.resolve().parent.name)).lower())
    if norm is None:
        got = f"got {entry['threat_model']!r:.40}" if "threat_model" in entry else "it is missing"
        raise ResultsError(f"{file}: `threat_model` must be Linf or L2, {got}")
    found = {"dataset": entry.get("dataset"), "norm": norm, "eval_epsilon": float(_number(entry, "eps", file))}
    fields = {"dataset": "dataset", "norm": "threat_model", "eval_epsilon": "eps"}
    for name, field in fields.items():
        if len(own[name]) != 1 or not _same(found[name], own[name][0]):
            study = " and ".join(map(str, own[name])) or "none"
            raise ResultsError(
                f"{file}: `{field}` is {found[name]!r:.60}, but {study} in the study: only published results of one "
                "data set and threat model can be compared"
            )
    accuracies = {
        name: _percent(entry, name, file) for name in ("autoattack_acc", "external") if _is_given(entry, name)
    }
    if not accuracies:
        raise ResultsError(f"{file}: `autoattack_acc` is missing")
    clean, lower = _percent(entry, "clean_acc", file), min(accuracies, key=accuracies.__getitem__)
    robust = accuracies[lower]
    if 0 < clean <= 0.01:
        raise ResultsError(f"{file}: `clean_acc` must be a percentage such as 83.34, got the fraction {100 * clean:g}")
    if robust > clean:
        raise ResultsError(f"{file}: `{lower}` must be at most `clean_acc`, got {robust:.4f} of {clean:.4f}")
    words = [str(entry[key]).strip()[:_LETTERS] for key in ("name", "architecture") if isinstance(entry.get(key), str)]
    name = ", ".join(filter(None, words)) or file.stem[:_LETTERS]
    if not name.isprintable():
        raise ResultsError(f"{file}: `name` and `architecture` must be printable text, got {name!r:.60}")
    return Anchor(name=name, clean=clean, robust=robust)


def _is_given(entry: Mapping[str, Any], name: str) -> bool:
    return entry.get(name) not in (None, "")


def _percent(entry: Mapping[str, Any], name: str, file: Path) -> float:
    value = _number(entry, name, file)
    if isinstance(entry[name], float) and 0 < value < 1:  # RobustBench writes text, such as "0.43" for 0.43 %
        raise ResultsError(
            f"{file}: `{name}` must be a percentage such as 43.21, got the fraction {entry[name]:g}; a percentage "
            f'below one is given as text, "{entry[name]:g}"'
        )
    if value > 100:
        raise ResultsError(f"{file}: `{name}` must be a percentage, got {float(value):g}")
    return float(value / 100)


def _number(entry: Mapping[str, Any], name: str, file: Path) -> Fraction:
    """Return a number given as such or as text, "8/255"."""
    given = entry.get(name)
    text = given.strip() if isinstance(given, str) else repr(given)
    if isinstance(given, bool) or not _NUMBER.fullmatch(text):
        raise ResultsError(f'{file}: `{name}` must be a number such as "43.21" or "8/255", got {given!r:.40}')
    whole, _, parts = text.partition("/")
    return Fraction(whole) / Fraction(parts or "1")


def _same(found: Any, own: Any) -> bool:
    return math.isclose(found, own, rel_tol=1e-6) if isinstance(own, float) else bool(found == own)
