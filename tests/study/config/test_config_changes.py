"""Which changes of a study's config are allowed, and which are refused."""

from __future__ import annotations

import copy

import pytest

from study.cluster.doctor import planned_start
from study.config.changes import check_unchanged
from study.config.loading import load_config, write_yaml
from study.directory.layout import CONFIG_FILE, open_config
from study.errors import UsageError

RECORDED = load_config("quickstart").to_dict()

HARMLESS = [
    "search.num_trials=7",
    "resources.cpus=2",
    "resources.max_concurrent=3",
    "cluster.address=10.0.0.1:6379",
    "tracking.uri=http://tracking.example:5000",
    "storage.checkpoints=/shared/checkpoints",
    "storage.checkpoint_minutes=1",
    "storage.keep=front",
    "dataset.root=/data",
]


def changed(*assignments):
    return load_config("quickstart", assignments=assignments)


@pytest.mark.parametrize("assignment", HARMLESS)
def test_keys_of_how_much_and_where_may_change(assignment):
    config = changed(assignment)
    assert config.to_dict() != RECORDED
    check_unchanged(RECORDED, config, where="study.yaml")


def test_refused_changes_are_listed_key_by_key():
    config = changed("training.lr=0.3", "search.seed=5", "search.num_trials=9", "evaluation.epsilon=8/255")
    with pytest.raises(UsageError) as refused:
        check_unchanged(RECORDED, config, where="here/study.yaml")
    problems = refused.value.problems
    assert len(problems) == 4
    for key in ("training.lr", "search.seed", "evaluation.epsilon"):
        assert sum(problem.startswith(f"`{key}` was ") for problem in problems) == 1
    assert f"`search.seed` was {RECORDED['search']['seed']} when the study started and is 5 now" in problems
    assert "here/study.yaml" in problems[-1]


def test_the_remedy_for_a_change_on_the_command_line_is_to_leave_it_out():
    config = changed("training.lr=0.3", "training.momentum=0.5")
    with pytest.raises(UsageError, match="leave out its --set, or launch"):
        check_unchanged(
            RECORDED, config, where="here/study.yaml", given=["training.lr", "training.momentum", "resources.cpus"]
        )
    with pytest.raises(UsageError, match=r"restore the old values in here/study\.yaml"):
        check_unchanged(RECORDED, config, where="here/study.yaml", given=["training.lr"])


def test_a_study_from_before_a_setting_keeps_its_former_meaning(tmp_path):
    """The setting missing in its config is filled wherever that is read, and today's default is a refused change."""
    recorded = copy.deepcopy(RECORDED)
    recorded["training"]["ema"] = 0.99
    del recorded["training"]["ema_warmup"], recorded["evaluation"]["attack"]
    write_yaml(tmp_path / CONFIG_FILE, recorded)
    stored = open_config(tmp_path)
    assert (stored.training.ema_warmup, stored.evaluation.attack) == (True, "pgd")
    assert stored.trial_spec({"method": "natural"}, number=0).training.ema_warmup
    examined = planned_start(str(tmp_path), assignments=[], out=tmp_path, data_root=None, address=None).config
    assert examined.training == stored.training
    check_unchanged(recorded, stored, where="study.yaml")
    today = load_config(str(tmp_path / CONFIG_FILE))
    assert not today.training.ema_warmup
    with pytest.raises(UsageError, match=r"`training\.ema_warmup` was True when the study started and is False now"):
        check_unchanged(recorded, today, where="study.yaml")


def test_keys_that_a_later_version_added_have_their_defaults():
    recorded = {name: section for name, section in RECORDED.items() if name not in ("storage", "cluster")}
    check_unchanged(recorded, changed(), where="study.yaml")
    with pytest.raises(UsageError, match=r"`training\.epochs` was"):
        check_unchanged({**recorded, "gone": 1}, changed("training.epochs=99"), where="study.yaml")
