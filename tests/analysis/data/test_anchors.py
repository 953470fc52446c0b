"""Published results are read strictly, and refused where data set or threat model differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.studies.synthetic_results import as_table, result_row

from analysis.data.anchors import MOST_ANCHORS, MOST_BYTES, Anchor, read_anchors
from analysis.data.schema import ResultsError

TABLE = as_table([result_row(0, dataset="cifar10", eval_epsilon=8 / 255)])

# the fields as RobustBench has them
ENTRY: dict[str, Any] = {
    "link": "https://arxiv.org/abs/2001.03994", "name": "A paper", "authors": "A, B", "additional_data": False,
    "number_forward_passes": 1, "dataset": "cifar10", "venue": "ICLR 2020", "architecture": "ResNet-18",
    "eps": "8/255", "clean_acc": "83.34", "reported": "46.06", "autoattack_acc": "43.21", "threat_model": "Linf",
}  # fmt: skip


def read(folder: Path, tree: Any, name: str = "anchors.json") -> list[Anchor]:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return read_anchors(file, TABLE)


def test_one_object_a_list_and_a_folder_are_read(tmp_path: Path) -> None:
    anchor = Anchor(name="A paper, ResNet-18", clean=0.8334, robust=0.4321)
    assert read(tmp_path, ENTRY) == [anchor]
    assert read(tmp_path, [ENTRY, ENTRY]) == [anchor, anchor]
    unnamed = {name: value for name, value in ENTRY.items() if name not in ("threat_model", "name", "architecture")}
    # as in RobustBench's own folders, numbers as numbers, and a lower value found by others
    entry = unnamed | {"clean_acc": 83.34, "external": "40.0", "eps": 0.03137254901960784}
    read(tmp_path, entry, "cifar10/Linf/Some2020Net.json")
    (found,) = read_anchors(tmp_path / "cifar10" / "Linf", TABLE)
    assert (found.name, found.robust) == ("Some2020Net", 0.4)
    # as some editors save, and a percentage below one
    (found,) = read(tmp_path, "\ufeff" + json.dumps(ENTRY | {"external": "0.43"}))
    assert found.robust == 0.0043


REFUSED = {
    "another data set": (ENTRY | {"dataset": "cifar100"}, "`dataset` is 'cifar100', but cifar10 in the study"),
    "another norm": (ENTRY | {"threat_model": "L2"}, "`threat_model` is 'l2', but linf"),
    "another radius": (ENTRY | {"eps": "4/255"}, "`eps` is 0.0156"),
    "corruptions": (ENTRY | {"threat_model": "corruptions"}, "`threat_model` must be Linf or L2, got 'corruptions'"),
    "no threat model": ({k: v for k, v in ENTRY.items() if k != "threat_model"}, "must be Linf or L2, it is missing"),
    "no robust accuracy": (ENTRY | {"autoattack_acc": ""}, "`autoattack_acc` is missing"),
    "no clean accuracy": ({k: v for k, v in ENTRY.items() if k != "clean_acc"}, "`clean_acc` must be a number"),
    "a fraction above one": (ENTRY | {"clean_acc": "833.4"}, "`clean_acc` must be a percentage, got 833.4"),
    "a fraction": (ENTRY | {"clean_acc": 0.8334}, "must be a percentage such as 43.21, got the fraction 0.8334"),
    "a robust fraction": (
        ENTRY | {"autoattack_acc": 0.4321},
        "got the fraction 0.4321; a percentage below one is given",
    ),
    "another's fraction": (
        ENTRY | {"external": 0.4},
        "`external` must be a percentage such as 43.21, got the fraction",
    ),
    "more robust than clean": (ENTRY | {"clean_acc": "40"}, "`autoattack_acc` must be at most `clean_acc`"),
    "others' value too high": (ENTRY | {"autoattack_acc": None, "external": 99}, "`external` must be at most"),
    "no entry": ([], "holds no published result"),
    "an expression": (ENTRY | {"eps": "1e999"}, "`eps` must be a number"),
    "a division by zero": (ENTRY | {"eps": "8/00"}, "`eps` must be a number"),
    "a truth value": (ENTRY | {"clean_acc": True}, "`clean_acc` must be a number"),
    "not a number": ('{"clean_acc": NaN}', r"must be JSON as RobustBench's model_info has it \(the number NaN\)"),
    "no JSON": ("{", "must be JSON"),
    "half a character": (ENTRY | {"name": "A \ud800"}, r"`name` and `architecture` must be printable text"),
    "two lines": (ENTRY | {"architecture": "WRN\n28"}, r"`name` and `architecture` must be printable text"),
    "deep lists": ("[" * 100_000, "must be JSON"),
    "other lists": ([1], "must hold an object, or a list of objects, got int"),
    "too many": ([ENTRY] * (MOST_ANCHORS + 1), "more than 1000"),
    "too long": (" " * (MOST_BYTES + 1), "at most 1,000,000 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_all_else_is_refused_with_file_and_field(case: str, tmp_path: Path) -> None:
    tree, message = REFUSED[case]
    with pytest.raises(ResultsError, match=message) as refused:
        read(tmp_path, tree)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"none\.json cannot be read: No such file"):
        read_anchors(tmp_path / "none.json", TABLE)
    with pytest.raises(ResultsError, match=r"has none"):
        read_anchors(tmp_path, TABLE)
