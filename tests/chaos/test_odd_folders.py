"""A real study in folders of odd names, with a long TMPDIR and an output that shows ASCII alone, as a user runs it."""

from __future__ import annotations

import os

import pytest
from helpers.studies.small_study import SmallStudy

from analysis.data.results import read_results

pytestmark = pytest.mark.chaos

NAME = """a%20b lr%3D0.1 % ?#&+'"@é漢 ;{}"""
OUT = "runs?v2 #1%20"
CHANGES = {
    "training": {"epochs": 1},
    "evaluation": {"every": 1, "steps": 1, "examples": 32, "lipschitz": {"steps": 1, "examples": 8}},
    "tracking": {"models": 1},
    "search": {"num_trials": 1, "methods": ["natural"]},
}


def test_every_command_works_in_folders_of_odd_names(tmp_path):
    temporary = tmp_path / ("job" * 20)
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "PYTHONIOENCODING": "ascii"}
    study = SmallStudy(tmp_path / "work" / NAME, CHANGES, environment=environment)
    study.dir = study.folder / OUT / "small"
    launched = study.call("launch", "study.yaml", "--out", OUT)
    assert launched.returncode == 0, launched.stderr
    assert "tracking verified" in launched.stderr
    assert launched.stderr.count("Ray's temporary files go to /tmp instead") == 1
    assert "Front on validation: 1 member of 1 trial" in launched.stdout
    assert f"robust-study ui '{OUT}/small' " in launched.stdout
    for words in (
        ["resume", study.dir, "--add-trials", "1"],
        ["sync", study.dir],
        ["status", study.dir],
        ["pareto", study.dir],
        ["report", study.dir],
        ["doctor", study.dir],
        ["export", study.dir, "--out", "of?/rows#.parquet"],
        ["export", "--mlflow", "sqlite:///mlflow.db", "--experiment", "robust-study", "--out", "of?/runs.parquet"],
    ):
        ended = study.call(*map(str, words))
        assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), (words, ended.stderr)
        assert "missing" not in ended.stderr
        assert "no per-example outcomes" not in ended.stderr
    assert read_results(study.folder / "of?/rows#.parquet").equals(read_results(study.folder / "of?/runs.parquet"))
    assert len(study.rows()) == len(study.optuna().trials) == 2
    assert os.listdir(tmp_path / "work") == [NAME]
    assert sorted(os.listdir(study.folder)) == sorted(["mlartifacts", "mlflow.db", "of?", OUT, "study.yaml"])
    assert os.listdir(study.folder / OUT) == ["small"]
