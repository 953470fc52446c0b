"""A study's config: presets, required keys, one line per mistake, `--set`, and the specs made from it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import FixedTrial

from analysis.statistics.association import LEAST
from study.config.loading import load_config, presets
from study.config.paths import extras, pools, resolved
from study.config.schema import parse_config
from study.errors import UsageError
from study.search.samplers import is_random
from trainables.spec import TrialSpec

SMALL = {"name": "small", "dataset": {"name": "digits"}, "search": {"space": "core"}}


def problems(tree):
    with pytest.raises(UsageError) as caught:
        load_config(tree)
    return caught.value.problems


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_its_resolved_form_is_the_same_config(name):
    config = load_config(name)
    assert config.name == name
    assert parse_config(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


@pytest.mark.parametrize("name", presets())
def test_only_the_papers_preset_trains_without_the_recipe(name):
    training = load_config(name).training
    recipe = (training.warmup, training.ramp, training.clip_norm, training.give_up_after)
    assert recipe == ((0, 0, None, None) if name == "paper" else (0.1, 0.3, 3.0, 0.5))


def test_only_name_dataset_and_space_are_required():
    parse_config(SMALL)
    assert problems({}) == ("`name` is required", "`dataset` is required", "`search` is required")
    assert "`dataset.name` is required" in problems({**SMALL, "dataset": {}})
    assert "`search.space` is required" in problems({**SMALL, "search": {}})


@pytest.mark.parametrize(
    ("section", "value", "line"),
    [
        ("evaluation", {"epsilon": 8}, "`evaluation.epsilon` must be in [0, 1], got 8 (did you mean 8/255?)"),
        ("evaluation", {"lipschitz": {"step": 3}}, "unknown key `evaluation.lipschitz.step` (did you mean steps?)"),
        ("trainig", {}, "unknown key `trainig` (did you mean training?)"),
        ("training", {"epochs": 0}, "`training.epochs` must be in [1, 100000], got 0"),
        (
            "training",
            {"craft_mode": {"bn": "on"}},
            "`training.craft_mode.bn`: input should be 'eval' or 'train', got 'on'",
        ),
        ("model", {"dropout": 1.5}, "`model.dropout` must be in [0, 0.95], got 1.5"),
        ("name", "a/b", "`name` must be letters, digits, dots, dashes and underscores"),
        ("resources", {"cpus": 0}, "`resources.cpus`: input should be greater than 0, got 0"),
    ],
)
def test_a_mistake_is_one_line_with_field_requirement_and_value(section, value, line):
    (problem,) = problems({**SMALL, section: value})
    assert problem.startswith(line)


@pytest.mark.parametrize(
    ("search", "line"),
    [
        ({"num_trials": 0}, "`search.num_trials`: input should be greater than or equal to 1, got 0"),
        ({"space": "cor"}, "`search.space`: unknown search space 'cor' (did you mean core?)"),
        ({"methods": ["tradez"]}, "`search.methods`: unknown method 'tradez' (did you mean trades?)"),
        ({"methods": ["trades", "trades"]}, "`search.methods` lists 'trades' more than once"),
        ({"objectives": ["val_clean"]}, "`search.objectives` has no 'val_clean'"),
        ({"objectives": ["test_robust_accuracy"]}, "`search.objectives` has no 'test_robust_accuracy'"),
        ({"sampler": "tpf"}, "`search.sampler`: input should be"),
    ],
)
def test_mistakes_in_the_search(search, line):
    (problem,) = problems({**SMALL, "search": {"space": "core", **search}})
    assert problem.startswith(line)


def test_unknown_model_and_data_set_name_the_nearest():
    assert problems({**SMALL, "model": {"name": "cnn_smal"}})[0].startswith(
        "`model.name`: unknown model 'cnn_smal' (did you mean cnn_small?)"
    )
    assert "(did you mean mnist?)" in problems({**SMALL, "dataset": {"name": "mnits"}})[0]


def test_all_mistakes_are_reported_at_once():
    tree = {**SMALL, "training": {"lrr": 1}, "evaluation": {"epsilon": 8, "examples": 0}}
    assert len(problems(tree)) == 3


def test_set_replaces_dotted_keys_and_reads_fractions_and_exponents():
    config = load_config(
        "quickstart", assignments=["evaluation.epsilon=8/255", "training.weight_decay=1e-4", "search.num_trials=3"]
    )
    assert config.evaluation.epsilon == 8 / 255
    assert config.training.weight_decay == 1e-4
    assert config.search.num_trials == 3


@pytest.mark.parametrize(
    ("source", "assignments", "match"),
    [
        ("quickstrat", [], r"unknown preset 'quickstrat' \(did you mean quickstart\?\)"),
        ("no/such.yaml", [], "config file no/such.yaml does not exist"),
        ("quickstart", ["epsilon"], "--set takes key=value, got 'epsilon'"),
        ("quickstart", ["name.x=1"], "`name` is the value 'quickstart' here, not a section"),
        ("quickstart", ["search.methods=[a"], "not valid YAML"),
    ],
)
def test_an_unreadable_config_is_one_clear_line(source, assignments, match):
    with pytest.raises(UsageError, match=match):
        load_config(source, assignments=assignments)


def test_the_quickstart_has_enough_random_proposals_for_intervals_within_its_methods():
    search = load_config("quickstart").search
    random = sum(is_random(number, fraction=search.random_fraction) for number in range(search.num_trials))
    assert search.num_trials >= 36
    assert len(search.methods) >= 5
    assert random == search.num_trials / 2
    assert random - (len(search.methods) - 1) >= LEAST + 3  # some may be flagged or fail


def test_a_proposal_becomes_a_spec_that_survives_json_shaped_dicts():
    config = load_config("quickstart")
    proposal = {"method": "trades", "dropout": 0.25, "train_epsilon": 0.1, "beta": 3.0, "lr": 0.02}
    spec = config.trial_spec(proposal, number=7)
    assert (spec.model.dropout, spec.params, spec.train_epsilon, spec.training.lr) == (0.25, {"beta": 3.0}, 0.1, 0.02)
    assert spec.seed == config.trial_spec({"method": "natural"}, number=7).seed
    assert spec.seed != config.trial_spec(proposal, number=8).seed
    assert TrialSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("page", ["README.md", "docs/first_study.md"])
def test_the_configs_in_the_documents_are_valid(page):
    text = (Path(__file__).parents[3] / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        load_config(yaml.safe_load(block))


def test_an_l2_radius_may_exceed_one():
    config = parse_config({**SMALL, "evaluation": {"norm": "l2", "epsilon": 1.5}})
    (drawn,) = [each for each in config.space().dimensions if each.name == "train_epsilon"]
    assert (drawn.low, drawn.high) == (0.375, 3.0)
    spec = config.trial_spec({"method": "trades", "train_epsilon": 2.5}, number=0)
    assert spec.train_epsilon == 2.5
    with pytest.raises(UsageError, match=r"`evaluation\.epsilon` must be at least 0, got inf"):
        parse_config({**SMALL, "evaluation": {"norm": "l2", "epsilon": math.inf}})


def test_craft_mode_is_set_per_method_and_searched():
    search = SMALL["search"] | {"methods": ["adversarial_training", "trades"]}
    fixed = {"adversarial_training.craft_mode": {"bn": "train", "dropout": "train"}}
    config = parse_config({**SMALL, "search": search | {"fixed": fixed}})
    modes = {}
    values = {"train_epsilon": 0.1, "dropout": 0.0, "trades.beta": 1.0}
    for method in search["methods"]:
        drawn = config.space().draw(optuna.trial.FixedTrial({"method": method, **values}))
        modes[method] = str(config.trial_spec(drawn, number=0).training.craft_mode)
    assert modes == {"adversarial_training": "bn=train,dropout=train", "trades": "bn=eval,dropout=eval"}
    listed = {"craft_mode": {"values": ["bn=eval,dropout=eval", "bn=train,dropout=train"]}}
    config = parse_config({**SMALL, "search": search | {"ranges": listed}})
    assert "craft_mode" in [each.name for each in config.space().dimensions]
    for wrong in ({"fixed": {"trades.craft_mode": "on"}}, {"ranges": {"craft_mode": {"values": ["bn=maybe"]}}}):
        with pytest.raises(UsageError, match="craft_mode"):
            parse_config({**SMALL, "search": search | wrong})


def test_paths_of_pools_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool.parquet").write_bytes(b"")
    search = SMALL["search"] | {"methods": ["robust_self_training"]}
    for given in ({"fixed": {"pool": "pool.parquet"}}, {"ranges": {"pool": {"values": ["pool.parquet", "mnist"]}}}):
        config = resolved(parse_config({**SMALL, "search": search | given}))
        assert pools(config)[0] == str(tmp_path / "pool.parquet")
        assert pools(config)[1:] in ([], ["mnist"])


def test_extra_images_have_absolute_paths_and_are_no_unlabelled_pool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.parquet").write_bytes(b"")
    more, here = str(tmp_path / "more.parquet"), {"extra": "more.parquet"}
    assert extras(resolved(parse_config({**SMALL, "training": here}))) == [more]
    for given in ({"fixed": here}, {"ranges": {"extra": {"values": ["more.parquet", None]}}}):
        config = resolved(parse_config({**SMALL, "search": SMALL["search"] | given}))
        assert (extras(config), pools(config)) == ([more], [])


@pytest.mark.parametrize("name", ["thesis", "thesis_mnist"])
def test_the_thesis_presets_vary_one_strength_and_dropout_with_three_seeds(name):
    config = load_config(name)
    space, points = config.space(), config.space().grid()
    assert config.num_trials == 3 * len(points)
    varied = {}
    for point in points:
        spec = config.trial_spec(space.draw(FixedTrial(point)), number=0)
        assert spec.train_epsilon in (None, config.evaluation.epsilon) or spec.method == "adversarial_training"
        strength = spec.train_epsilon if spec.method == "adversarial_training" else tuple(spec.params.values())
        varied.setdefault((spec.method, spec.model.dropout), set()).add(strength)
    assert {method for method, _ in varied} == set(config.search.methods)
    assert {dropout for _, dropout in varied} == {0.0, 0.5}
    assert {len(each) for (method, _), each in varied.items() if method != "natural"} == {4}


def test_methods_left_out_by_set_take_their_ranges_with_them():
    search = load_config("thesis", assignments=["search.methods=[natural, trades]"]).search
    assert {*search.ranges} == {"dropout", "trades.beta"}
    assert load_config("paper", assignments=["search.methods=[trades]"]).search.fixed == {"train_epsilon": 0.1}
    with pytest.raises(UsageError, match=r"search\.ranges\.gradient_regularization\.lambda"):
        load_config(
            "mnist", assignments=["search.methods=[trades]", "search.ranges.gradient_regularization.lambda=[1, 2]"]
        )


def test_the_paper_preset_runs_each_combination_once_in_the_papers_craft_modes():
    config = load_config("paper")
    space = config.space()
    points = space.grid()
    assert len(points) == config.search.num_trials == 2 * (1 + 1 + 1 + 1 + 3 + 3)
    for number, point in enumerate(points):
        spec = config.trial_spec(space.draw(FixedTrial(point)), number=number)
        mode = "train" if spec.method in ("adversarial_training", "robust_self_training") else "eval"
        assert str(spec.training.craft_mode) == f"bn={mode},dropout={mode}"
