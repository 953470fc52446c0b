"""The theorem's classifier of a study: measured once when it ends or by command, drawn from its file, never fatal."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from helpers.studies.synthetic_results import as_table, study_rows

import trainables.data
from analysis.data.results import write_rows
from analysis.data.schema import RESULT, ResultsError
from analysis.statistics.networks.separated_classifier import FILE, classifier_point, read_classifier
from study.config.loading import load_config
from study.config.paths import resolved
from study.directory.layout import create
from study.evaluation import study_separation
from study.evaluation.study_separation import estimated_seconds, measure_at_end
from trainables.data import load_dataset
from trainables.separation.classifier import measure_classifier
from trainables.spec import DatasetSpec

CONFIG = {
    "name": "toy", "dataset": {"name": "digits", "train_size": 300}, "search": {"space": "core", "num_trials": 12},
    "evaluation": {"epsilon": 0.1, "examples": 100},
}  # fmt: skip
DATA = load_dataset(DatasetSpec(name="digits", train_size=300)).without_test()


def rows_of(split_hash=DATA.split_hash):
    return [row | {"split_hash": split_hash, "examples": 100} for row in study_rows(12, seed=2)]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolved(load_config(CONFIG))
    folder = create(config, tmp_path / "studies")
    write_rows(folder / "results" / "compacted.parquet", rows_of(), RESULT)
    return config, folder.relative_to(tmp_path)


def test_it_is_measured_on_train_and_validation_images_once(study, monkeypatch, capsys):
    config, folder = study
    measure_at_end(config, folder, as_table(rows_of()))
    found = read_classifier(folder, as_table(rows_of()))
    expected = measure_classifier(DATA.train, DATA.val, norm="linf", scale=DATA.scale)
    radii = zip(expected.certificate.radius.tolist(), expected.correct.tolist(), strict=True)
    assert found.certified_radius == [radius if right else None for radius, right in radii]
    assert (found.train_images, found.two_r) == (300, expected.separation.min())
    point = classifier_point(found, as_table(rows_of()))
    assert point.examples == 100
    assert point.clean == expected.correct[:100].mean()
    assert point.certified == (expected.certificate.radius[:100] > 0.1).mean()
    assert 0 < point.certified < point.clean < 1
    assert "measuring the separated-data classifier" in capsys.readouterr().err
    monkeypatch.setattr(trainables.data, "load_dataset", lambda *_: pytest.fail("the data set is loaded again"))
    measure_at_end(config, folder, as_table(rows_of()))
    assert capsys.readouterr().err == ""


def fails(monkeypatch, how):
    """Arrange what keeps the classifier from being measured, and return a part of the line that tells it."""
    if how == "slow":
        monkeypatch.setattr(study_separation, "_PAIRS_A_SECOND", 100.0)
        return "may take "
    if how == "slower than estimated":
        monkeypatch.setattr(study_separation, "UNASKED_SECONDS", 1.0)
        monkeypatch.setattr(study_separation, "estimated_seconds", lambda _: 0.5)
        clock = iter(range(0, 1000, 100))
        monkeypatch.setattr(study_separation.time, "monotonic", lambda: float(next(clock)))
        return "which take too long"
    if how == "no data":
        monkeypatch.setattr(trainables.data, "load_dataset", lambda *_: 1 / 0)
        return "ZeroDivisionError"
    other = replace(DATA, split_hash="other")
    monkeypatch.setattr(trainables.data, "load_dataset", lambda *_: other)
    return "holds other images than when trial"


@pytest.mark.parametrize("how", ["slow", "slower than estimated", "no data", "other images"])
def test_what_keeps_it_from_being_measured_is_a_line_with_the_command_and_no_failure(study, monkeypatch, capsys, how):
    config, folder = study
    part = fails(monkeypatch, how)
    measure_at_end(config, folder, as_table(rows_of()))
    line = capsys.readouterr().err.splitlines()[-1]
    assert part in line
    assert line.endswith(f"measure it with: robust-study separation {folder}")
    assert not (folder / FILE).exists()


def test_a_stop_signal_ends_it_and_leaves_no_file(study, capsys):
    config, folder = study
    measure_at_end(config, folder, as_table(rows_of()), ended=lambda: True)
    assert "told to stop" in capsys.readouterr().err
    assert not (folder / FILE).exists()


def test_the_estimate_lets_mnist_pass_and_not_a_set_of_large_images(monkeypatch):
    def seconds(train, val, pixels):
        def part(count):
            images = type("Images", (), {"nbytes": count * pixels})()
            return type("Part", (), {"__len__": lambda _: count, "images": images})()

        return estimated_seconds(type("Data", (), {"train": part(train), "val": part(val)})())

    monkeypatch.setattr("trainables.separation.nearest.available_cores", lambda: 2)
    assert seconds(1078, 359, 64) < 1
    assert seconds(54_000, 6_000, 784) < 61
    assert seconds(45_000, 5_000, 3072) < 60
    assert seconds(230_000, 25_000, 3 * 224 * 224) > 150


def test_the_command_prints_the_sentence_and_keeps_the_file(command, study):
    _, folder = study
    code, out, err = command("separation", folder)
    assert code == 0
    found = " ".join(out.split())
    assert found.startswith("Theorem: some classifier is right everywhere within ε of all 300 training images")
    assert "of 100 validation images" in found
    assert f"draw it with: robust-study pareto {folder}" in " ".join(err.split())
    facts = json.loads(command("separation", folder, "--json", "--epsilon", "0.2")[1])
    assert (facts["epsilon"], facts["train_images"], facts["val_images"]) == (0.2, 300, 100)
    assert facts["file"] == str(folder / FILE)
    stored = json.loads((folder / FILE).read_text())
    right = [radius for radius in stored["certified_radius"][:100] if radius is not None]
    assert facts["val_clean_accuracy"] == len(right) / 100
    assert facts["certified_val_accuracy_at_epsilon"] == sum(radius > 0.2 for radius in right) / 100


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--norm", "l2", "--out", "x"],
            "--norm, --out cannot be given for a study, whose own",
        ),
        (["--train", "5"], "--train cannot be given for a study"),
        (["--epsilon", "8"], "--epsilon must be in [0, 1], got 8 (did you mean 8/255?)"),
    ],
)
def test_options_of_data_sets_are_refused_for_a_study(command, study, words, line):
    code, out, err = command("separation", study[1], *words)
    assert (code, out) == (2, "")
    assert line in " ".join(err.split())
    assert not (study[1] / FILE).exists()


def test_other_images_and_no_results_are_one_line_of_exit_code_2(command, study):
    _, folder = study
    write_rows(folder / "results" / "compacted.parquet", rows_of("other"), RESULT, replace=True)
    code, _, err = command("separation", folder)
    assert code == 2
    assert "holds other images than when trial t00000 was run" in " ".join(err.split())
    (folder / "results" / "compacted.parquet").unlink()
    code, _, err = command("separation", folder)
    assert code == 2
    assert "has no results yet" in err


def test_pareto_draws_it_from_its_file_without_data_and_names_the_command_without_it(command, study, monkeypatch):
    config, folder = study
    _, _, before = command("pareto", folder, "--format", "html")
    assert f"measure and keep it with: robust-study separation {folder}" in " ".join(before.split())
    measure_at_end(config, folder, as_table(rows_of()))
    monkeypatch.setattr(trainables.data, "load_dataset", lambda *_: pytest.fail("pareto loads the data set"))
    code, _, after = command("pareto", folder, "--format", "html")
    assert code == 0
    assert "measure and keep it" not in after
    page = (folder / "figures" / "pareto.html").read_text(encoding="utf-8")
    assert '"star-open"' in page
    assert "Theorem: some classifier is right everywhere" in page


def test_a_damaged_file_is_named_and_everything_else_drawn(command, study):
    config, folder = study
    measure_at_end(config, folder, as_table(rows_of()))
    whole = (folder / FILE).read_text()
    for text in (
        whole[:40],
        "[]",
        whole.replace('"version": 1', '"version": 9'),
        '{"version": 1}',
    ):
        (folder / FILE).write_text(text)
        with pytest.raises(ResultsError, match="remove it, and measure it again"):
            read_classifier(folder, as_table(rows_of()))
    code, _, err = command("pareto", folder, "--format", "svg")
    assert code == 0
    assert f"skipped: {folder / FILE} is damaged" in " ".join(err.split())
    assert (folder / "figures" / "pareto.svg").is_file()


def test_one_label_and_an_infinite_radius_survive_the_file(study):
    config, folder = study
    measure_at_end(config, folder, as_table(rows_of()))
    found = read_classifier(folder, as_table(rows_of()))
    single = replace(found, two_r=None, consistent_two_r=None, certified_radius=[math.inf, None])
    (folder / FILE).write_text(single.text())
    again = read_classifier(folder, as_table(rows_of()))
    assert again == single
    assert again.certified_accuracy(1.0) == 0.5
    assert again.reach() is None
