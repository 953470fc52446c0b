"""The paper's tables as studies: what each grid holds at each scale, and invalid input to `reproduce`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.studies.synthetic_results import study_rows

from analysis.data.results import write_rows
from analysis.data.schema import RESULT
from study.cli import main
from study.config.loading import load_config, write_yaml
from study.config.paths import resolved
from study.directory.layout import CONFIG_FILE
from study.reproduce import accuracy_tables
from study.reproduce.grids import RADII, SCALES, SEPARATIONS, TABLES, parts
from study.reproduce.proof_settings import proof_parts
from study.reproduce.request import TableRequest
from trainables.data import DATASETS
from trainables.models import build_model


def configs(table: str, scale: str):
    return [load_config(part) for part in parts(table, scale)]


def points(config) -> set[tuple[str, float | None, float]]:
    """Return the grid as (method, strength, dropout)."""
    grid = set()
    for point in config.space().grid():
        strength = point.get("trades.beta", point.get("robust_self_training.lambda"))
        grid.add((point["method"], strength, point["dropout"]))
    return grid


@pytest.mark.parametrize("table", TABLES[1:])
@pytest.mark.parametrize("scale", SCALES)
def test_every_grid_is_a_valid_study(table, scale):
    for part, config in zip(parts(table, scale), configs(table, scale), strict=True):
        assert config.name == part["name"]
        assert config.search.sampler == "grid"
        assert config.storage.keep == "all"
        assert config.search.fixed["train_epsilon"] == config.evaluation.epsilon
        assert config.num_trials == len(points(config))
        assert config.evaluation.every == config.training.epochs


@pytest.mark.parametrize("scale", SCALES)
def test_everything_is_trained_as_in_the_paper_and_the_tables_are_measured_so(scale):
    tables = [config for table in TABLES[1:] for config in configs(table, scale)]
    proofs = [load_config(part.tree) for part in proof_parts(scale)]
    for config in (*tables, *proofs):
        training = config.training
        recipe = (training.warmup, training.ramp, training.clip_norm, training.give_up_after)
        assert recipe == (0.0, 0.0, None, None), config.name
    for config in tables:
        assert (config.evaluation.attack, config.evaluation.margin_check) == ("pgd", False)
    assert {config.evaluation.attack for config in proofs} == {"multi_targeted"}


ROBUST = {("robust_self_training", strength) for strength in (0.5, 1.0, 2.0)} | {
    ("trades", strength) for strength in (1.0, 3.0, 6.0)
}
ONCE = {("natural", None), ("adversarial_training", None)}
REGULARISED = {("gradient_regularization", None), ("locally_linear", None)}
FEW = ONCE | {("robust_self_training", 2.0), ("trades", 3.0), ("trades", 6.0)}


@pytest.mark.parametrize(
    ("table", "scale", "settings", "dropouts"),
    [
        ("table2", "paper", [ROBUST | ONCE | REGULARISED] * 2, [{0.5}] * 2),
        ("table2", "smoke", [ROBUST | ONCE | REGULARISED] * 2, [{0.5}] * 2),
        ("table3", "paper", [ROBUST | ONCE] * 2, [{0.0}] * 2),
        ("table3", "laptop", [ROBUST | ONCE], [{0.0}]),
        ("table4", "paper", [FEW] * 2, [{0.0, 0.5}, {0.0, 0.2}]),
        ("table4", "smoke", [FEW], [{0.0, 0.2, 0.5}]),
    ],
)
def test_each_table_holds_the_papers_models(table, scale, settings, dropouts):
    """The models listed in scripts/Table2.sh, Table3.sh and Table4.sh of the code published with the paper."""
    for config, models, rates in zip(configs(table, scale), settings, dropouts, strict=True):
        assert points(config) == {(*model, rate) for model in models for rate in rates}


def test_the_papers_training_follows_its_code():
    (cnn1, cnn2), (cifar, imagenet), (svhn, dropped) = (configs(table, "paper") for table in TABLES[1:])
    assert [config.model.name for config in (cnn1, cnn2, cifar, imagenet)] == ["cnn1", "cnn2", "wrn_40_10", "resnet50"]
    for config in (cnn1, cnn2, cifar, imagenet, svhn, dropped):
        assert config.evaluation.epsilon == RADII[config.dataset.name]
        assert config.dataset.train_size is None
        assert config.training.weight_decay == 0
        assert config.training.schedule == "milestones"
    # the paper's loss is a sum over 64 images, ours a mean
    assert cnn1.training.lr == pytest.approx(1e-4 * 64)
    assert [config.training.epochs for config in (cnn1, cifar, imagenet, svhn, dropped)] == [160, 120, 70, 60, 120]
    adversarial = {"method": "adversarial_training", "train_epsilon": 0.031, "dropout": 0.0}
    space = svhn.space().fixed
    assert space["adversarial_training.lr"] == pytest.approx(1e-3 * 64)
    proposal = adversarial | {"lr": space["adversarial_training.lr"]}
    assert svhn.trial_spec(proposal, number=0).training.lr == pytest.approx(1e-3 * 64)
    assert "adversarial_training.lr" not in dropped.space().fixed
    assert imagenet.training.optimizer == "adam"


def test_smoke_needs_no_files_and_its_networks_take_the_images():
    for table in TABLES[1:]:
        for config in configs(table, "smoke"):
            assert config.dataset.name == "digits"
            build_model(config.model.name, image_shape=(1, 8, 8), num_classes=10, dropout=0.5, mean=(0.5,), std=(0.3,))
    assert {part.dataset for part in SEPARATIONS["smoke"]} == {"digits", "synthetic_separated"}
    assert {part.dataset: part.epsilon for part in SEPARATIONS["paper"]} == RADII
    assert RADII.keys() <= set(DATASETS)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUST_STUDY_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["robust-study", "reproduce", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        captured = capsys.readouterr()
        return code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["table5"], "TABLE must be one of table1, table2, table3, table4, proof-of-concept, got 'table5'"),
        (["table2", "--scale", "papr"], "--scale must be one of smoke, laptop, paper, got 'papr'"),
        (["table2", "--set", "training.epoch=1"], "unknown key `training.epoch`"),
        (["table2", "--set", "name=mine"], "--set name gives all studies of the table one name"),
        (["table1", "--set", "training.epochs=1"], "table1 trains nothing and has no config: leave --set out"),
        (["table1", "--scale", "laptop"], "mnist: "),
        (["table4", "--scale", "laptop"], "table4-laptop: "),
    ],
)  # fmt: skip
def test_invalid_input_is_reported_in_one_line(command, words, line, tmp_path):
    code, out, err = command(*words)
    assert code == 2
    assert out == ""
    assert line in err
    assert not list(tmp_path.glob("studies/*/*"))


@pytest.mark.long
def test_table1_is_measured_once_and_reprinted(command, tmp_path):
    code, out, err = command("table1")
    assert code == 0
    assert "measuring digits" in err
    rows = {line.split("|")[1].strip(): line.split("|") for line in out.splitlines() if line.startswith("| ")}
    assert float(rows["digits"][5]) == 7 / 16
    assert float(rows["synthetic_separated"][5]) == pytest.approx(64 / 255, abs=1e-4)
    home = tmp_path / "studies" / "table1-smoke"
    assert {path.suffix for path in home.glob("table1.*")} == {".md", ".tex", ".csv", ".parquet"}
    assert json.loads((home / "digits-linf" / "summary.json").read_text())["two_r"] == 7 / 16
    _, reprinted, notes = command("table1")
    assert reprinted == out
    assert "measuring" not in notes


def started(out: Path, *assignments: str) -> Path:
    """Return the folder of table 4's study, as a launch with these settings leaves it before its first trial."""
    folder = out / "table4-smoke" / "table4-smoke"
    folder.mkdir(parents=True)
    config = load_config(parts("table4", "smoke")[0], assignments=assignments)
    write_yaml(folder / CONFIG_FILE, resolved(config).to_dict())
    return folder


def test_a_table_is_resumed_with_the_data_root_of_the_command(monkeypatch, tmp_path):
    """The data may have moved since the launch, whose root is in the study's config."""
    home = started(tmp_path)
    root = tmp_path / "new: of 2024"
    root.mkdir()
    called = []
    monkeypatch.setattr(accuracy_tables, "call", lambda words: called.append(words) or 1)
    request = TableRequest(table="table4", scale="smoke", out=tmp_path, data_root=root)
    with pytest.raises(SystemExit):
        accuracy_tables.run(request)
    assert called == [["resume", str(home), "--set", f'dataset.root="{root}"']]


@pytest.mark.parametrize("rows", [0, 15])
def test_no_table_mixes_settings(command, tmp_path, rows):
    """A complete study too: a `--set` that it was not run with would be ignored without a word."""
    folder = started(tmp_path / "studies")
    if rows:
        write_rows(folder / "results" / "all.parquet", study_rows(rows, failed=0), RESULT)
    for words in (["--set", "training.epochs=1"], ["--set", "training.epochs=1", "--dry-run"]):
        code, out, err = command("table4", *words)
        assert (code, out) == (2, "")
        assert "`training.epochs` was 8 when the study started and is 1 now" in err
        assert "was started with other settings: give the --set it was started with and no other, or another" in err


def test_the_same_relative_path_is_the_same_setting(command, tmp_path):
    words = "training.extra=extra.npz"
    Path("extra.npz").touch()
    started(tmp_path / "studies", words)
    code, out, err = command("table4", "--set", words, "--dry-run")
    assert (code, err) == (0, "")
    assert "started: 0 of 15 trials are done" in out


def test_fewer_seeds_than_a_study_has_are_refused(command, tmp_path):
    started(tmp_path / "studies", "search.seeds=2")
    code, _, err = command("table4", "--dry-run")
    assert code == 2
    assert "`search.seeds` was 2 when the study was run and is 1 now" in err
    assert command("table4", "--set", "search.seeds=3", "--dry-run")[0] == 0


def test_a_damaged_config_is_not_taken_for_other_settings(command, tmp_path):
    (started(tmp_path / "studies") / CONFIG_FILE).write_text("name: [")
    code, _, err = command("table4")
    assert code == 2
    assert "study.yaml" in err
    assert "other settings" not in err


def test_a_study_that_ended_before_its_grid_is_continued_and_what_is_left_is_named(monkeypatch, tmp_path):
    folder = started(tmp_path, "search.num_trials=4", "search.time_budget=1m")
    write_rows(folder / "results" / "all.parquet", study_rows(4, failed=0), RESULT)
    called = []
    monkeypatch.setattr(accuracy_tables, "call", lambda words: called.append(words) or 0)
    files, missing = accuracy_tables.run(TableRequest(table="table4", scale="smoke", out=tmp_path))
    assert called[0] == ["resume", str(folder), "--set", "search.num_trials=1000", "--set", "search.time_budget=null"]
    (line,) = (line for line in missing if "run it without them" in line)
    assert line.startswith("table4-smoke: 11 of the grid's 15 trials, left out by search.num_trials or ")
    text = files[0].read_text(encoding="utf-8")
    assert f"not in this table, {line}" in text

    assert "Lipschitz of ≤ 500 examples per split" in text


def test_a_started_study_whose_data_are_gone_is_shown_and_named(monkeypatch, tmp_path):
    trees = [parts("table4", "smoke")[0], parts("table3", "laptop")[0]]
    monkeypatch.setattr(accuracy_tables, "parts", lambda *_: trees)
    monkeypatch.setattr(accuracy_tables, "call", lambda words: 0)
    folder = tmp_path / "table4-smoke" / "table3-laptop"
    folder.mkdir(parents=True)
    write_yaml(folder / CONFIG_FILE, resolved(load_config(trees[1])).to_dict())
    write_rows(folder / "results" / "all.parquet", study_rows(4, failed=0), RESULT)
    started(tmp_path)
    request = TableRequest(table="table4", scale="smoke", out=tmp_path, data_root=tmp_path)
    files, missing = accuracy_tables.run(request)
    assert missing[0].startswith("table3-laptop: mnist is not in ")
    text = files[0].read_text(encoding="utf-8")
    assert f"not continued, {missing[0]}" in text
    assert "not in this table, table3-laptop" not in text


def test_a_dry_run_says_how_much_of_the_grid_is_run(command):
    code, out, _ = command("table3", "--scale", "paper", "--set", "search.num_trials=4", "--dry-run")
    assert code == 0
    assert out.count("4 trials of a grid of 8 points") == 2


def test_a_dry_run_shows_the_study_and_starts_nothing(command, tmp_path):
    code, out, _ = command("table3", "--scale", "paper", "--dry-run")
    assert code == 0
    assert "study table3-paper-cifar10: 8 trials" in out
    assert "study table3-paper-restricted_imagenet: 8 trials" in out
    assert out.count("trades.beta") == 2
    assert not (tmp_path / "studies").exists()
