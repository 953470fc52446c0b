"""The command `separation`: what it prints and writes, and one clear line for each mistake."""

from __future__ import annotations

import csv
import io
import json
import math
import sys

import numpy as np
import pytest
from rich.console import Console

from analysis.data.results import read_separation
from study import console
from study.cli import main

TOY = """
import numpy as np
from trainables.data.base import RawImages

def toy(root):
    rows = lambda *rows: np.array(rows, dtype=np.uint8)[:, None, None]
    return RawImages(
        train_images=rows([10, 10], [10, 10], [50, 10], [90, 90]), train_labels=np.array([0, 1, 1, 0]),
        test_images=rows([52, 10], [130, 0], [90, 80]), test_labels=np.array([1, 0, 0]),
        class_names=("a", "b"), scale=200,
    )

def single(root):
    images = np.zeros((2, 1, 1, 1), np.uint8)
    return RawImages(
        train_images=images, train_labels=np.array([0, 0]), test_images=images[:1], test_labels=np.array([0]),
        class_names=("only",),
    )

def broken(root):
    return "images"
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "toysets", raising=False)
    (tmp_path / "toysets.py").write_text(TOY)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["robust-study", "separation", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    yield run
    sys.modules.pop("toysets", None)


def test_everything_is_printed_and_written(command, tmp_path):
    code, out, err = command("toysets:toy", "--json", "--epsilon", "8/255")
    assert code == 0
    found = json.loads(out)
    assert (found["two_r"], found["r"]) == (0, 0)
    assert found["epsilon"] == 8 / 255
    pairs = found["pairs"]
    assert pairs["train-train"]["two_r"] == 0
    assert pairs["train-train"]["two_r_without_contradicting"] == 80 / 200
    assert pairs["train-train"]["within_two_epsilon"] == 2
    assert pairs["test-train"]["closest"] == [
        {"split": "test", "index": 0, "label": 1}, {"split": "train", "index": 0, "label": 0},
    ]  # fmt: skip
    assert found["contradicting_duplicates"] == [
        [{"split": "train", "index": 0, "label": 0}, {"split": "train", "index": 1, "label": 1}]
    ]
    # test 0 is 2 from its own class and 42 from the other, test 1 ties, test 2 is 10 and 70 away.
    assert found["separated_data_classifier"]["test_accuracy"] == pytest.approx(2 / 3)
    folder = tmp_path / "separation" / "toysets.toy-linf"
    assert [folder / name for name in (
        "distances.parquet", "contradicting_duplicates.csv", "separation.png", "separation.pdf", "separation.csv",
        "certified_accuracy.csv",
    )] == [tmp_path / path for path in found["files"]]  # fmt: skip
    assert all((tmp_path / path).stat().st_size for path in found["files"])
    assert "compared all pairs" in err


def test_the_rows_say_what_was_measured(command, tmp_path):
    assert command("toysets:toy", "--out", "x")[0] == 0
    rows = read_separation(tmp_path / "x" / "toysets.toy-linf" / "distances.parquet").to_pylist()
    assert [(row["pairs"], row["index"]) for row in rows] == [
        *(("train-train", index) for index in range(4)),
        *(("test-train", index) for index in range(3)),
        *(("test-test", index) for index in range(3)),
    ]
    assert rows[4] == {
        "dataset": "toysets:toy", "norm": "linf", "scale": 200, "pairs": "test-train", "split": "test", "index": 0,
        "label": 1, "distance": 42 / 200, "levels": 42, "nearest_index": 0, "nearest_label": 0, "contradicting": False,
        "own_distance": 2 / 200, "certified_radius": 40 / 400,
    }  # fmt: skip
    assert [row["contradicting"] for row in rows[:4]] == [True, True, False, False]
    assert [row["certified_radius"] for row in rows[7:]] == [None] * 3
    with (tmp_path / "x" / "toysets.toy-linf" / "contradicting_duplicates.csv").open() as file:
        assert list(csv.reader(file)) == [["group", "split", "index", "label"], ["0", "train", "0", "0"],
                                          ["0", "train", "1", "1"]]  # fmt: skip


def test_l2_distances_are_roots_of_exact_squares(command, tmp_path):
    code, out, _ = command("digits", "--norm", "l2", "--train", 300, "--test", 40, "--epsilon", "0.5")
    assert code == 0
    assert "Separation of digits in l2" in out
    rows = read_separation(tmp_path / "separation" / "digits-l2-train300-test40" / "distances.parquet")
    assert rows.num_rows == 380
    for distance, levels in zip(rows["distance"].to_pylist(), rows["levels"].to_pylist(), strict=True):
        assert distance == math.sqrt(levels) / 16


def test_the_table_names_duplicates_and_both_radii(command):
    out = command("toysets:toy")[1]
    assert "1 group of identical images" in out
    assert "train 0 (0) = train 1 (1)" in out
    assert "r = 0 over all images, not above ε = 0.1: the theorem promises no robust classifier" in out
    assert "over images that contradict none, above ε = 0.1: some classifier" in out


def test_one_label_is_said_not_guessed(command, tmp_path):
    code, out, _ = command("toysets:single", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["two_r"] is None
    assert found["pairs"]["train-train"]["closest"] is None
    rows = read_separation(tmp_path / "separation" / "toysets.single-linf" / "distances.parquet")
    assert rows["distance"].null_count == rows.num_rows == 4
    assert "no separation to measure" in command("toysets:single")[1]


def test_the_same_again_keeps_the_file_and_other_distances_are_refused(command, tmp_path):
    assert command("digits", "--train", 50, "--test", 5)[0] == 0
    path = tmp_path / "separation" / "digits-linf-train50-test5" / "distances.parquet"
    before = path.read_bytes()
    assert command("digits", "--train", 50, "--test", 5)[0] == 0
    assert path.read_bytes() == before
    path.write_bytes((tmp_path / "separation" / "digits-linf-train50-test5" / "separation.csv").read_bytes())
    code, _, err = command("digits", "--train", 50, "--test", 5)
    assert code == 2
    assert "holds other distances" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["digitz"], "unknown data set 'digitz' (did you mean digits?)"),
        (["digits", "--train", "0"], "--train must be in 1..1437, the images there are, got 0"),
        (["digits", "--test", "361"], "--test must be in 1..360, the images there are, got 361"),
        (["digits", "--epsilon", "8"], "--epsilon must be in [0, 1], got 8 (did you mean 8/255?)"),
        (["digits", "--epsilon", "wide"], "--epsilon must be a number such as 0.1 or 8/255, got 'wide'"),
        (["digits", "--norm", "l2", "--epsilon", "-1"], "--epsilon must be finite and at least 0, got -1"),
        (["digits", "--norm", "l2", "--epsilon", "nan"], "--epsilon must be finite and at least 0, got nan"),
        (["mnist", "--data-root", "nowhere"], "must be an existing folder, got nowhere"),
        (["toysets:broken"], "must return trainables.data.base.RawImages, got str"),
    ],
)
def test_bad_input_is_one_line(command, words, line):
    code, out, err = command(*words)
    assert code == 2
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


def test_an_unknown_norm_is_refused(command):
    code, _, err = command("digits", "--norm", "l1")
    assert code == 2
    assert "'l1' is not one of 'linf', 'l2'" in err


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_removed_option_device_is_one_line(command, device):
    code, out, err = command("digits", "--device", device)
    assert (code, out) == (2, "")
    assert "--device has been removed" in err
    assert "leave the option out" in err
    assert err.count("\n") == 1
    assert "--device" not in command("--help")[1]


def test_progress_is_plain_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    with console.PairProgress() as progress:
        progress.update("train-train", 50, 200)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train-train: 25% of all pairs")
    assert lines[1].startswith("compared all pairs in")


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "notes", lambda: Console(file=screen, force_terminal=True, width=80))
    with console.PairProgress() as progress:
        progress.update("train-train", 50, 200)
        progress._bar.refresh()
    assert "train-train" in screen.getvalue()
    assert "25%" in screen.getvalue()


def test_distances_of_a_set_without_other_labels_count_nowhere(command):
    found = json.loads(command("toysets:single", "--json", "--norm", "l2", "--epsilon", "1000")[1])
    assert np.isfinite(found["epsilon"])
    assert found["pairs"]["train-train"]["within_two_epsilon"] == 0
