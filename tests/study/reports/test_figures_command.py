"""The command `figures`: what it writes, what it reports as missing, and where it finds the separation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.studies.synthetic_results import METHODS, as_table, result_row, study_rows

from analysis.data.results import example_columns, read_separation, to_table, trial_file, write_columns, write_rows
from analysis.data.schema import EPOCH, EXAMPLE, RESULT, SEPARATION
from analysis.material import StudyMaterial
from analysis.statistics.networks.theorem_radius import reach_of
from study.directory.layout import member_folder
from study.reports.dataset_separation import distances_of
from study.reports.figure_data import with_figure_data
from study.reports.figures import draw_all
from study.reports.radius_curves import CURVE, front_curves, write_curve
from study.reports.sources import gather
from trainables.data.base import RawImages


def folder_of(path, rows):
    write_rows(path / "results" / "compacted.parquet", rows, RESULT)
    return path


def distances(name="mnist", least=0.7, folder=None):
    columns = {
        "dataset": [name], "norm": ["linf"], "scale": [255], "pairs": ["train-train"], "split": ["train"], "index": [0],
        "label": [1], "distance": [least], "contradicting": [False],
    }  # fmt: skip
    if folder is None:
        return to_table(columns, SEPARATION)
    write_columns(folder / "distances.parquet", columns, SEPARATION)
    return read_separation(folder / "distances.parquet")


def test_every_figure_is_in_the_studys_folder_with_its_data(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "toy", study_rows(15, methods=METHODS[:2], seed=2))
    distances("digits", folder=tmp_path / "toy" / "separation" / "digits-linf")
    # no format: drawing, which takes longest, is tested in analysis
    draw_all(Path("toy"), formats=[], width="page", out=None)
    out, err = capsys.readouterr()
    assert out.strip() == "toy/figures"
    assert {path.stem for path in (tmp_path / "toy" / "figures").glob("*.csv")} == {
        "pareto", "lipschitz", "hypervolume", "slice_train_epsilon", "slice_dropout", "slice_strength",
        "parallel_coordinates", "accuracy_against_epsilon", "best_against_last", "separation", "robust_lipschitz",
        "certified_accuracy",
    }  # fmt: skip
    assert "has only two radii for some members" in err
    assert "no importance figure: fewer than 20 sound trials" in err
    assert "no contours: they need 30 trials" in err


def test_epochs_and_members_lipschitzness_are_read_of_one_study_and_of_several(tmp_path) -> None:
    for name in ("one", "two"):
        rows = [result_row(n, study=name, val_clean_accuracy=0.9 - n / 10, val_robust_accuracy=n / 10) for n in (1, 2)]
        folder_of(tmp_path / name, rows)
        for row in rows:
            trial = {"study": name, "trial_id": row["trial_id"]}
            epoch = {**trial, "number": row["number"], "epoch": 1, "stale": False, "train_robust_accuracy": 0.5}
            write_rows(trial_file(tmp_path / name, row["trial_id"], schema=EPOCH), [epoch], EPOCH)
            part = {"index": np.arange(3), "clean_correct": np.ones(3, bool), "robust_correct": np.ones(3, bool)}
            splits = {
                split: {**part, "lipschitz": np.array([2.0, scale])} for split, scale in (("train", 1), ("val", 3))
            }
            columns = example_columns(splits, **trial, checkpoint="last", attack="pgd", epsilon=0.1)
            write_columns(trial_file(tmp_path / name, row["trial_id"], schema=EXAMPLE), columns, EXAMPLE)
    for names, ids in ((("one",), ["t00001", "t00002"]), (("one", "two"), ["one/t00001", "one/t00002", "two/t00001"])):
        sources = gather([tmp_path / name for name in names])
        known = with_figure_data(StudyMaterial(table=sources.table), sources)
        assert known.epochs["trial_id"].to_pylist()[: len(ids)] == ids
        assert set(known.epochs["train_robust_accuracy"].to_pylist()) == {0.5}
        assert set(ids) <= set(known.smoothness)
        assert {split: values.tolist() for split, values in known.smoothness[ids[0]].items()} == {
            "train": [1.0, 2.0], "val": [2.0, 3.0],
        }  # fmt: skip
    shutil.rmtree(tmp_path / "one" / "examples")
    sources = gather([tmp_path / "one"])
    assert with_figure_data(StudyMaterial(table=sources.table), sources).smoothness == {}


def test_epochs_of_two_studies_in_one_folder_are_told_apart(tmp_path) -> None:
    folder_of(tmp_path / "both", [result_row(1, study="one"), result_row(2, study="two")])
    for name, number in (("one", 1), ("two", 2)):
        epoch = {"study": name, "trial_id": f"t{number:05d}", "number": number, "epoch": 1, "stale": False}
        write_rows(trial_file(tmp_path / "both", epoch["trial_id"], schema=EPOCH), [epoch], EPOCH)
    sources = gather([tmp_path / "both"])
    known = with_figure_data(StudyMaterial(table=sources.table), sources)
    assert known.epochs["trial_id"].to_pylist() == ["one/t00001", "two/t00002"]


@pytest.mark.long
def test_figures_and_pareto_write_the_same_probabilities_of_the_front(command, tmp_path) -> None:
    rows = study_rows(12, seed=2, failed=0)
    folder_of(tmp_path / "toy", rows)
    for row in rows:
        correct = {f"{kind}_correct": np.arange(40) < 40 * row[f"val_{kind}_accuracy"] for kind in ("clean", "robust")}
        trial = {"study": "toy", "trial_id": row["trial_id"], "checkpoint": "last", "attack": "pgd", "epsilon": 0.1}
        columns = example_columns({"val": {"index": np.arange(40), **correct}}, **trial)
        write_columns(trial_file(tmp_path / "toy", row["trial_id"], schema=EXAMPLE), columns, EXAMPLE)
    assert command("pareto", "toy", "--format", "svg")[0] == 0
    file = tmp_path / "toy" / "figures" / "pareto.csv"
    drawn = file.read_text()
    draw_all(Path("toy"), formats=[], width="page", out=None)
    assert file.read_text() == drawn


@pytest.mark.parametrize("words", [["--format", "jpg"], ["--width", "poster"]])
def test_invalid_options_are_named(command, tmp_path, words) -> None:
    folder_of(tmp_path / "toy", [result_row(0)])
    code, _, err = command("figures", "toy", *words)
    assert code == 2
    assert words[1] in err


def test_rows_of_different_measurements_are_refused(command, tmp_path) -> None:
    folder_of(tmp_path / "toy", [result_row(0), result_row(1, dataset="mnist")])
    code, _, err = command("figures", "toy")
    assert code == 2
    assert "differ in dataset (digits, mnist)" in err
    assert not (tmp_path / "toy" / "figures").exists()


def test_the_separation_is_found_where_the_command_writes_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table, home = as_table([result_row(0, dataset="mnist")]), tmp_path / "toy"
    home.mkdir()
    assert distances_of(table, home) is None
    distances(folder=tmp_path / "separation" / "mnist-linf-train200", least=0.1)
    distances("fashion_mnist", folder=tmp_path / "separation" / "fashion_mnist-linf", least=0.2)
    assert distances_of(table, home) is None
    in_working_folder = distances(folder=tmp_path / "separation" / "mnist-linf")
    assert distances_of(table, home) == in_working_folder
    in_study = distances(folder=home / "separation" / "mnist-linf", least=0.6)
    assert distances_of(table, home) == in_study
    shutil.rmtree(home / "separation")
    assert distances_of(as_table([result_row(0, dataset="mnist", norm="l2")]), home) is None


def test_the_separation_of_a_small_built_in_data_set_is_measured_once_and_saved(tmp_path, monkeypatch) -> None:
    images = np.array([0, 3, 16, 9], dtype=np.uint8).reshape(4, 1, 1, 1)
    images_of_two_classes = RawImages(
        train_images=images[:2], train_labels=np.array([0, 1]), test_images=images[2:], test_labels=np.array([0, 1]),
        class_names=("a", "b"), scale=16,
    )  # fmt: skip
    loaded = []

    def load_raw(name, *, root):
        loaded.append(name)
        return images_of_two_classes, name

    monkeypatch.setattr("trainables.data.load_raw", load_raw)
    distances_of(as_table([result_row(0)]), tmp_path)
    assert not list(tmp_path.iterdir()), "nothing is written beside an exported file"
    loaded.clear()
    (tmp_path / "results").mkdir()
    for _ in range(2):
        theorem = reach_of(distances_of(as_table([result_row(0)]), tmp_path))
        assert theorem is not None
        assert (theorem.two_r, theorem.radius, theorem.examples) == (3 / 16, 3 / 32, 4)
    assert loaded == ["digits"]


def test_curves_are_spread_along_the_front_and_read_as_written(tmp_path) -> None:
    rows = [
        result_row(n, val_clean_accuracy=0.9 - 0.01 * n, val_robust_accuracy=0.1 + 0.02 * n, method="trades")
        for n in range(30)
    ]
    curves = front_curves(as_table(rows), tmp_path)
    assert len(curves) == 10
    assert {curves[0].trial_id, curves[-1].trial_id} == {"t00000", "t00029"}
    radii, accuracies = (0.0, 0.05, 0.1), tuple(np.linspace(0.9, 0.1, 3).tolist())
    longer = type(curves[0])(**{**vars(curves[0]), "radii": radii, "accuracies": accuracies})
    member_folder(tmp_path, longer.trial_id).mkdir(parents=True)
    write_curve(member_folder(tmp_path, longer.trial_id) / CURVE, longer)
    assert longer in front_curves(as_table(rows), tmp_path)
    other = {**rows[0], "study": "other", "val_clean_accuracy": 0.95}
    assert not any(curve.measured for curve in front_curves(as_table([*rows, other]), tmp_path))
