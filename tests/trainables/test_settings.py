"""Records made before a setting existed keep the meaning that they had."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from trainables.settings import setting, settings_of, with_former_values, without_former_values
from trainables.spec import TrialSpec
from trainables.training.outcome import config_hash


@dataclass(frozen=True)
class Inner:
    rate: float = setting(0.5, doc="declared from the start")
    fast: bool = setting(True, doc="added later", before=False)


@dataclass(frozen=True)
class Outer:
    inner: Inner = setting(factory=Inner, doc="a section")
    plain: int = 3
    nothing: int | None = setting(3, doc="added later", before=None)
    options: dict[str, int] = field(default_factory=dict)


def test_missing_settings_have_the_values_from_before_them():
    recorded = {"inner": {"rate": 0.1}, "options": {"fast": 1}}
    assert with_former_values(recorded, Outer) == {**recorded, "inner": {"rate": 0.1, "fast": False}, "nothing": None}
    assert recorded == {"inner": {"rate": 0.1}, "options": {"fast": 1}}
    assert with_former_values({}, Outer) == {"inner": {"fast": False}, "nothing": None}
    complete = {"inner": {"rate": 0.1, "fast": True}, "nothing": 4}
    assert with_former_values(complete, Outer) == complete


def test_what_is_no_section_is_left_to_the_checks():
    for damaged in (None, [], "text"):
        assert with_former_values(damaged, Outer) is damaged
    assert with_former_values({"inner": "text"}, Outer)["inner"] == "text"


def test_recorded_specs_have_the_former_averaging_and_attack_and_new_ones_do_not():
    tree = {"dataset": {"name": "digits"}, "method": "natural"}
    new, old = TrialSpec.from_dict(tree), TrialSpec.from_dict(with_former_values(tree, TrialSpec))
    assert (new.training.ema_warmup, old.training.ema_warmup, old.evaluation.attack) == (False, True, "pgd")
    assert with_former_values(new.to_dict(), TrialSpec) == new.to_dict()
    assert not settings_of(Inner)["fast"].before


def test_settings_at_their_former_values_are_left_out_again():
    recorded = {"inner": {"rate": 0.1}, "plain": 3, "options": {"fast": 1}}
    assert without_former_values(with_former_values(recorded, Outer), Outer) == recorded
    used = {"inner": {"rate": 0.1, "fast": True}, "nothing": 4}
    assert without_former_values(used, Outer) == used


TREE = {
    "dataset": {"name": "digits", "root": "/here"},
    "method": "trades",
    "params": {"beta": 6.0},
    "train_epsilon": 0.1,
    "seed": 1,
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"seed": 2}, True),
        ({"dataset": {"name": "digits", "root": "/there"}}, True),
        ({"params": {"beta": 6}}, True),
        ({"training": {"extra_share": 0.5}}, True),
        ({"params": {"beta": 6.5}}, False),
        ({"training": {"schedule": "piecewise"}}, False),
        ({"evaluation": {"certify": "ibp"}}, False),
    ],
)
def test_seeds_of_one_setting_share_its_digest_and_no_other_trial_has_it(change, same):
    first, second = (config_hash(TrialSpec.from_dict(tree)) for tree in (TREE, TREE | change))
    assert (first == second) == same


def test_the_digest_of_recorded_rows_stays_when_a_setting_is_added():
    """As settings at their former values are left out, this one has it from before and after."""
    recorded = TREE | {"training": {"bounds_power": 1.0}}
    assert config_hash(TrialSpec.from_dict(recorded)) == "4c811c7aba16d037"
