"""What users write in YAML: it means what it says, or is refused in a line that names the field or the line."""

from __future__ import annotations

import sys

import pytest
import yaml

from study.cli import main
from study.config.loading import load_config, load_spec, read_yaml, yaml_text
from study.config.schema import parse_config
from study.config.strict_yaml import parse_yaml
from study.errors import UsageError

SMALL = "name: t\ndataset: {name: digits}\nsearch: {space: core, num_trials: 2}\n"
BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))])
DURATION = "`search.time_budget`: a duration must read like 90m, 8h or 1d12h (d, h, m, s), got "
TRUTH = "(YAML reads yes and on as true, no and off as false)"


@pytest.fixture
def load(tmp_path):
    def written(text, *assignments):
        (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
        return load_config(str(tmp_path / "study.yaml"), assignments=assignments)

    return written


@pytest.fixture
def problems(load):
    def refused(text, *assignments):
        with pytest.raises(UsageError) as caught:
            load(text, *assignments)
        return caught.value.problems

    return refused


# Keys and structure


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (SMALL + "training: {epochs: 1}\ntraining: {lr: 0.01}\n", "`training` is given twice, in lines 4 and 5"),
        (SMALL + "training:\n  lr: 1\n  epochs: 1\n  lr: 2\n", "the key `lr` is given twice, in lines 5 and 7"),
        (SMALL + "training: {lr: 1, lr: 1}\n", "the key `lr` is given twice, in lines 4 and 4"),
        (SMALL + "front: &f {reference: *f}\n", "line 4: an alias refers to the value that it is part of"),
        (SMALL + "front: &f {reference: [1, {a: *f}]}\n", "line 4: an alias refers to the value that it is part of"),
        (SMALL + "training: {lr: 0,5}\n", "line 4: a key must be text, got 5 (a number takes a point, not a comma)"),
        (SMALL + "training: {lr: 0,01}\n", "line 4: a key must be text, got 01 (a number takes a point"),
        (SMALL + "on: 1\n", "line 4: a key must be text, got on: put it in quotes"),
        (SMALL + "? [a]\n: 1\n", "line 4: a key must be text, got a list or mapping"),
        (SMALL + "---\nname: u\n", "line 4: not valid YAML (expected a single document in the stream"),
        (BOMB, "has more than 100,000 values"),
        ("a: " + "[" * 2000, "not valid YAML (too many levels)"),
        ("a: " + "1" * 5000, "not valid YAML (a number of thousands of digits)"),
        ("name: t\0", "not valid YAML (unacceptable character #x0000"),
        ("# nothing\n", "must be a mapping with `name`, `dataset` and `search`, got nothing"),
        ("- a\n", "must be a mapping with `name`, `dataset` and `search`, got a list"),
    ],
)  # fmt: skip
def test_a_file_that_no_config_can_be_read_from_is_one_line_with_its_place(problems, tmp_path, text, line):
    (problem,) = problems(text)
    assert problem.startswith(f"{tmp_path / 'study.yaml'}: ")
    assert line in problem
    assert "\n" not in problem


def test_equal_keys_of_an_assignment_are_refused_too(problems):
    (problem,) = problems(SMALL, "training={lr: 1, lr: 2}")
    assert problem.startswith("--set training: the key `lr` is given twice")


def test_of_several_assignments_of_one_key_the_last_holds(load):
    assert load(SMALL, "training.lr=0.3", "name=a", "training.lr=0.2").training.lr == 0.2


@pytest.mark.parametrize(("key", "option"), [("dataset.root", "--data-root"), ("cluster.address", "--address")])
def test_an_assignment_and_the_option_of_its_key_are_not_taken_together(key, option):
    value = {option.strip("-").replace("-", "_"): "auto"}
    with pytest.raises(UsageError, match=f"^--set {key} and {option} exclude each other: keep one$"):
        load_config(yaml.safe_load(SMALL), assignments=[f"{key}=auto"], **value)


def test_an_assignment_may_change_a_section_that_another_gives(load):
    assert load(SMALL, "training={lr: 0.3, epochs: 3}", "training.lr=0.2").training.lr == 0.2


def test_a_merge_may_be_overridden_by_its_mapping(tmp_path):
    (tmp_path / "a.yaml").write_text("base: &b {epochs: 3, lr: 0.2}\ntraining: {<<: *b, epochs: 4}\n")
    assert read_yaml(tmp_path / "a.yaml")["training"] == {"epochs": 4, "lr": 0.2}


@pytest.mark.parametrize(("encoding", "byte"), [("latin-1", "0xe9"), ("utf-16", "0xff")])
def test_another_encoding_is_named_by_its_first_byte(tmp_path, encoding, byte):
    (tmp_path / "study.yaml").write_bytes(("# épreuve\n" + SMALL).encode(encoding))
    with pytest.raises(UsageError, match=rf"study.yaml: must be text in UTF-8, got byte {byte}"):
        load_config(str(tmp_path / "study.yaml"))


# Values that YAML 1.1 reads in its own way


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("training: {lr: yes}", "training.lr"),
        ("training: {epochs: on}", "training.epochs"),
        ("training: {ema: no}", "training.ema"),
        ("model: {dropout: off}", "model.dropout"),
        ("evaluation: {lipschitz: {steps: true}}", "evaluation.lipschitz.steps"),
        ("resources: {max_concurrent: true}", "resources.max_concurrent"),
        ("resources: {custom: {big: yes}}", "resources.custom.big"),
        ("resources: {gpus: yes}", "resources.gpus"),
        ("front: {reference: {val_clean_accuracy: no}}", "front.reference.val_clean_accuracy"),
    ],
)
def test_a_truth_value_is_no_number(problems, text, field):
    (problem,) = problems(f"{SMALL}{text}\n")
    truth = "true" if any(word in text for word in ("yes", "on}", "true")) else "false"
    assert problem == f"`{field}` must be a number, got {truth} {TRUTH}"


def test_all_of_them_are_reported_together_with_other_mistakes(problems):
    text = SMALL + "training: {lr: yes, epochs: 0}\nmodel: {dropout: yes, depth: 3}\n"
    assert {line.partition("`")[2].partition("`")[0] for line in problems(text)} == {
        "training.lr", "training.epochs", "model.dropout", "model.depth",
    }  # fmt: skip


def test_truth_values_where_they_belong_stay_what_they_were(load):
    config = load(SMALL + "training: {compile: yes, ema_warmup: on}\nevaluation: {margin_check: off}\n")
    assert (config.training.compile, config.training.ema_warmup, config.evaluation.margin_check) == (True, True, False)
    ranges = "search: {space: core, ranges: {dropout: {low: 0.1, high: 0.2, log: no}}}\n"
    config = load("name: t\ndataset: {name: digits}\n" + ranges)
    assert not next(each for each in config.space().dimensions if each.name == "dropout").log


def test_a_quoted_truth_value_is_no_log_scale(problems):
    ranges = "search: {space: core, ranges: {dropout: {low: 0.1, high: 0.2, log: 'no'}}}\n"
    (problem,) = problems("name: t\ndataset: {name: digits}\n" + ranges)
    assert problem == "`search.ranges.dropout.log` must be true or false, got 'no'"


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("search.seed=010", "`search.seed` must not begin with 0, got 010: write 10"),
        ("search.seed='010'", "`search.seed` must not begin with 0, got 010: write 10"),
        ("training.epochs=-07", "`training.epochs` must not begin with 0, got -07: write -7"),
        ("search.seed=1:30", "`search.seed`: input should be a valid integer"),
        ("training.lr=1:30.5", "`training.lr`: input should be a valid number"),
        ("search.fixed={lr: 010}", "`search.fixed.lr` must be a number in [0, 100], got '010'"),
        ("search.time_budget=1:30", DURATION + "'1:30'"),
        ("search.time_budget=2", DURATION + "2"),
        ("name=2024", "`name` must be text, got the number 2024: put it in quotes"),
        ("name=no", f"`name` must be text, got false {TRUTH}: put it in quotes"),
        ("name=", "`name` must be text, got nothing"),
        ("name=[a]", "`name` must be text, got a list"),
        ("search.methods=[natural, off]", f"`search.methods.1` must be text, got false {TRUTH}: put it in quotes"),
        ("training=5", "`training` must be a section with keys of its own, got 5"),
        ("storage=s3://user:hunter2@bucket", "`storage` must be a section with keys of its own, got ..."),
    ],
)  # fmt: skip
def test_other_readings_are_refused_by_the_field_they_came_to(problems, assignment, line):
    (problem,) = problems(SMALL, assignment)
    assert problem.startswith(line)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("fixed={epochs: 2.5}", "`search.fixed.epochs` must be a whole number in [1, 100000], got 2.5"),
        ("fixed={batch_size: 3/2}", "`search.fixed.batch_size` must be a whole number at least 1, got 1.5"),
        (
            "ranges={epochs: {values: [1, 2.0]}}",
            "`search.ranges.epochs` must be a whole number in [1, 100000], got 2.0",
        ),
        ("ranges={attack_steps: [1, 2.5]}", "`search.ranges.attack_steps` must be a whole number at least 1, got 2.5"),
    ],
)
def test_a_searched_or_fixed_count_is_a_whole_number(problems, load, setting, line):
    assert problems(SMALL, f"search.{setting}") == (line,)
    assert load(SMALL, "search.fixed={epochs: 1e1}").search.fixed == {"epochs": 10}


@pytest.mark.parametrize("name", ["2024-10-05", "1e3", "007", "'10'"])
def test_a_name_that_looks_like_a_number_or_a_date_stays_text(load, name):
    assert load(SMALL, f"name={name}").name == name.strip("'")


# Short forms


def test_fractions_and_exponents_are_numbers_in_numeric_fields_alone(load):
    text = SMALL + "evaluation: {epsilon: '8/255'}\ntracking: {experiment: 10/25}\ntraining: {weight_decay: 1e-4}\n"
    config = load(text, "search.num_trials=1e1", "search.ranges={lr: [1/100, 1e-1]}", "search.fixed={dropout: 1/4}")
    assert config.evaluation.epsilon == 8 / 255
    assert config.tracking.experiment == "10/25"
    assert (config.training.weight_decay, config.search.num_trials) == (1e-4, 10)
    assert (config.search.ranges["lr"], config.search.fixed["dropout"]) == ([0.01, 0.1], 0.25)


def test_the_path_of_a_pool_is_no_fraction(load):
    methods = "search.methods=[robust_self_training]"
    assert load(SMALL, methods, "search.fixed={pool: 10/25}").search.fixed == {"pool": "10/25"}
    ranges = load(SMALL, methods, "search.ranges={pool: {values: [10/25, 1e3]}}").search.ranges
    assert ranges == {"pool": {"values": ["10/25", "1e3"]}}


@pytest.mark.parametrize("section", ["model", "training", "evaluation", "front", "scheduler", "resources", "tracking"])
def test_a_section_with_nothing_in_it_is_the_default(load, section):
    assert load(f"{SMALL}{section}:\n") == load(SMALL)


def test_an_empty_mapping_is_the_default_and_a_required_section_says_what_it_needs(load, problems):
    for key in ("search.ranges", "search.fixed", "resources.custom", "front.reference", "training.craft_mode"):
        assert load(SMALL, f"{key}=") == load(SMALL)
    assert problems("name: t\ndataset:\nsearch:\n") == ("`dataset.name` is required", "`search.space` is required")
    assert load(SMALL + "resources:\n", "resources.cpus=0.5").resources.cpus == 0.5


def test_text_for_a_section_is_its_name_or_its_only_key(load, problems):
    config = load("name: t\ndataset: digits\nmodel: mlp\nsearch: {space: core}\nscheduler: none\ncluster: auto\n")
    assert (config.dataset.name, config.model.name, config.cluster.address) == ("digits", "mlp", "auto")
    assert config.scheduler.name == "none"
    assert load(SMALL, "scheduler=moasha").scheduler.name == "moasha"
    (problem,) = problems(SMALL, "evaluation=pgd")
    assert problem == "`evaluation` must be a section with keys of its own, got 'pgd'"


# Records, specs and what is shown


def test_a_record_is_read_as_it_was_written():
    values = {"a": [True, False, None, 1, -7, 0, 1e-5, 1e300, 0.1], "b": ["yes", "010", "1:30", "2024-10-05", "1e3"]}
    text = yaml_text(values | {"c": ["8/255", "~", "", "null", "<<", "=", "0x1F", "1_000", ".5", "é: x"]})
    assert parse_yaml(text) == yaml.safe_load(text)


def test_a_spec_of_one_trial_is_checked_like_a_config(tmp_path):
    text = "dataset: digits\nmethod: natural\nmodel: mlp\ntraining:\nevaluation: {epsilon: 8/255}\nseed: 1e3\n"
    (tmp_path / "spec.yaml").write_text(text)
    spec = load_spec(tmp_path / "spec.yaml")
    assert (spec.dataset.name, spec.model.name, spec.evaluation.epsilon) == ("digits", "mlp", 8 / 255)
    assert (spec.seed, type(spec.seed)) == (1000, int)
    wrong = "dataset: {name: digits, val_fractoin: 1}\ntraining: {epochs: 2.5, lr: yes}\nseed: abc\nseeds: 1\n"
    (tmp_path / "spec.yaml").write_text(wrong)
    with pytest.raises(UsageError) as caught:
        load_spec(tmp_path / "spec.yaml")
    lines = [line.removeprefix(f"{tmp_path / 'spec.yaml'}: ") for line in caught.value.problems]
    assert lines[0] == f"`training.lr` must be a number, got true {TRUTH}"
    assert "unknown key `seeds` (did you mean seed?)" in lines
    assert {"unknown key `dataset.val_fractoin` (did you mean val_fraction?)", "`method` is required"} <= set(lines)
    assert any(line.startswith("`training.epochs`: input should be a valid integer") for line in lines)
    assert any(line.startswith("`seed`: input should be a valid integer") for line in lines)


def test_a_dry_run_shows_the_config_with_its_defaults_before_it_checks_the_data(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["launch", "mnist", "--dry-run", "--verbose", "--data-root", "nowhere", "--set", "evaluation.epsilon=8/255"]
    monkeypatch.setattr(sys, "argv", ["robust-study", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    assert caught.value.code == 2
    shown = parse_config(yaml.safe_load(captured.out))
    assert (shown.evaluation.epsilon, shown.dataset.root) == (8 / 255, str(tmp_path / "nowhere"))
    assert "weight_decay: 0.0005" in captured.out
    monkeypatch.setattr(sys, "argv", ["robust-study", "launch", "mnist", "--verbose"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "--verbose shows the config of a --dry-run: add --dry-run" in capsys.readouterr().err
