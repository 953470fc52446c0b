"""What is noticed about a data set: printed before the start, kept in the study's folder, shown in its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.networks.image_files import cyclic_labels, encode, parquet_table, random_images
from helpers.studies.pages import text_of
from helpers.studies.searching import study_config
from helpers.studies.synthetic_results import result_row

from analysis.data.results import trial_file, write_rows
from analysis.data.schema import RESULT
from study.config.loading import write_yaml
from study.directory.data_notes import read_data_notes, write_data_notes
from study.driver import tune_run
from study.evaluation.study_trials import data_with_test
from study.reports.report import write_report
from trainables.data import load_dataset
from trainables.spec import DatasetSpec

REPEATED = "40 of 40 test images are identical to a training or validation image"
LEFT_OUT = "test_corrupted.parquet left out: only files named like train.parquet and test.parquet are read"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder whose test images are training images too, with a file that belongs to no split."""
    folder = tmp_path / "toy images"
    folder.mkdir()
    pictures = random_images(80, (1, 8, 8))
    for name, part in (("train", pictures), ("test", pictures[:40]), ("test_corrupted", pictures[:9])):
        table = parquet_table([encode(image) for image in part], cyclic_labels(len(part), 2))
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def config_of(images: Path) -> dict:
    return {
        "name": "toy",
        "dataset": {"name": str(images)},
        "model": {"name": "mlp"},
        "training": {"epochs": 1},
        "search": {"space": "core", "methods": ["natural"], "num_trials": 1},
    }


def test_launch_and_doctor_print_it_before_the_start(command, tmp_path, images):
    write_yaml(tmp_path / "study.yaml", config_of(images))
    code, _, err = command("launch", "study.yaml", "--dry-run")
    assert code == 0
    assert f"data set toy images: {LEFT_OUT}\ndata set toy images: {REPEATED}\n" in err
    assert REPEATED in command("doctor", "study.yaml")[1]


def test_what_a_pool_leaves_out_is_printed_and_one_that_holds_only_the_splits_is_refused(command, tmp_path, images):
    tree = config_of(images)
    tree["search"] |= {"methods": ["robust_self_training"], "fixed": {"robust_self_training.pool": str(images)}}
    write_yaml(tmp_path / "study.yaml", tree)
    code, _, err = command("launch", "study.yaml", "--dry-run")
    assert f"`pool` {images}: {LEFT_OUT}\n" in err
    refusal = "robust-study: `pool` must hold images that are not in the trial's splits; all 80 are"
    assert (code, err.splitlines()[-1]) == (2, refusal)


def test_the_commands_that_need_no_study_print_it(command, tmp_path, images):
    spec = {"dataset": {"name": str(images)}, "method": "natural", "model": {"name": "mlp"}, "training": {"epochs": 1}}
    write_yaml(tmp_path / "spec.yaml", spec)
    for words in (
        ["train", "spec.yaml", "--save", "net.pt"],
        [
            "evaluate",
            "--checkpoint",
            "net.pt",
            "--model",
            "mlp",
            "--dataset",
            images,
            "--epsilon",
            "0.1",
            "--attack",
            "fgsm",
        ],
    ):
        code, _, err = command(*words)
        assert (code, f"data set toy images: {REPEATED}\n" in err) == (0, True), err
    assert f"data set toy images: {LEFT_OUT}\n" in command("separation", images)[2]


def test_measuring_trials_on_test_prints_it(images, capsys):
    config = study_config().model_copy(update={"dataset": DatasetSpec(name=str(images))})
    assert data_with_test(config, []).test is not None
    assert f"data set toy images: {REPEATED}\n" in capsys.readouterr().err


def test_a_data_set_that_is_refused_leaves_nothing_behind(command, tmp_path, images):
    write_yaml(tmp_path / "study.yaml", config_of(images))
    table = pq.read_table(images / "train.parquet")
    labels = np.where(table["label"].to_numpy() == 0, 100_017, 200_333)
    pq.write_table(table.set_column(1, "label", [labels]), images / "train.parquet")
    code, out, err = command("launch", "study.yaml")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "labels must be 0..3 for 4 classes, got 0, 1, 100017, 200333: renumber them" in err
    assert not (tmp_path / "studies").exists()


def test_the_driver_keeps_it_and_the_report_shows_it(tmp_path, monkeypatch, images):
    write_rows(trial_file(tmp_path, "00000"), [result_row(0, trial_id="00000")], RESULT)
    write_yaml(tmp_path / "study.yaml", study_config().to_dict())
    data = load_dataset(DatasetSpec(name=str(images))).without_test()
    run = tune_run._Run.__new__(tune_run._Run)
    monkeypatch.setattr(tune_run._Run, "_require_same_images", lambda self, data: None)
    monkeypatch.setattr(tune_run, "StudyProgress", lambda *words, **options: None)
    monkeypatch.setattr(tune_run, "claim", lambda *words, **options: (_ for _ in ()).throw(InterruptedError))
    run.config, run.study_dir, run.interrupts = study_config(), tmp_path, None
    run.result_writer = type("Writer", (), {"rows": {}, "standing": None})
    run.study = type("Study", (), {"user_attrs": {"study_id": "1f3c"}})
    with pytest.raises(InterruptedError):
        run.run(1, data=data, trainable=None)
    assert read_data_notes(tmp_path) == [LEFT_OUT, REPEATED]
    write_report([tmp_path], out=None)
    text = text_of((tmp_path / "report.html").read_text())
    assert f"data set: {REPEATED}" in text
    assert f"data set: {LEFT_OUT}" in text


def test_a_data_set_without_repeated_images_is_said_too_and_older_studies_say_nothing(tmp_path):
    assert read_data_notes(tmp_path) == []
    write_data_notes(tmp_path, load_dataset(DatasetSpec(name="digits")))
    assert read_data_notes(tmp_path) == ["no validation or test image is identical to one of another split"]
