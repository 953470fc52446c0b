"""`evaluate STUDY --trial` gives all that `evaluate --checkpoint` gives, in rows; a study's own file is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis.data.results import examples_file, read_evaluations, read_examples, read_results
from analysis.heldout.measurements import like_for_like, uses_lines
from analysis.heldout.members import read_uses
from study.config.loading import load_config
from study.directory.checkpoint_folder import OWNER_FILE, read_owner
from study.directory.layout import create
from study.driver.result_writer import ResultWriter
from study.errors import UsageError
from study.evaluation import bounds, checkpoint
from study.evaluation.attack_choice import ALL, parse_attacks
from study.evaluation.checkpoint_input import refuse_own
from trainables.attacks import ATTACKS
from trainables.data import load_dataset
from trainables.seeding import derive
from trainables.training.loop import Trainer

IMAGES, STEPS, RADIUS = 24, 3, 0.15

CONFIG = {
    "name": "toy",
    "dataset": {"name": "digits", "train_size": 300},
    "model": {"name": "mlp"},
    "training": {"epochs": 2, "batch_size": 50, "lr": 0.05},
    "evaluation": {"attack": "pgd", "epsilon": RADIUS, "steps": STEPS, "examples": 20},
    "search": {"space": "core", "num_trials": 8, "methods": ["natural"]},
}

OWN_ATTACK = """
from trainables.attacks.pgd import pgd
from trainables.attacks.threat import Ascent

def former(model, x, y, /, *, threat, steps, restarts, generator):
    return pgd(model, x, y, ascent=Ascent(threat, steps, restarts), generator=generator)
"""

OUTSIDE = ("--model", "mlp", "--dataset", "digits", "--epsilon", RADIUS, "--steps", STEPS, "--restarts", 1)


def make_study(out: Path) -> Path:
    """Make a study whose one trial, 00007, has its row and its checkpoint, and that was not tracked."""
    config = load_config(CONFIG)
    folder = create(config, out)
    spec = config.trial_spec({"method": "natural"}, number=7)
    trainer = Trainer(spec, data=load_dataset(config.dataset).without_test())
    while not trainer.done:
        trainer.run_epoch()
    place = folder / "checkpoints" / "00007"
    trainer.save_checkpoints(place)
    trial = {"trial_id": "00007", "number": 7, "proposal": "random", "spec": spec.to_dict()}
    ledger = ResultWriter(folder, study=config.name, methods=config.search.methods)
    ledger.record({**trial, "checkpoint_dir": str(place)}, trainer.outcome(), status="completed", run_id=None)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return make_study(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy of the study of the test's own, in `studies/toy` of the working folder."""
    shutil.copytree(finished, tmp_path / "studies" / "toy")
    row = read_results(tmp_path / "studies" / "toy").to_pylist()[0]
    assert row["checkpoint_path"] == str(finished / "checkpoints" / "00007")
    return Path("studies/toy")


def evaluated(command, *words):
    code, out, err = command("evaluate", *words, "--json")
    assert code == 0, err
    return json.loads(out), err


def test_a_trial_and_a_copy_of_its_file_outside_the_study_give_the_same_numbers(command, study, monkeypatch):
    options = ("--limit", IMAGES, "--attack", "multi_targeted")
    evaluated(command, study, "--trial", "7", "--limit", IMAGES, "--attack", "fgsm")
    inside, _ = evaluated(command, study, "--trial", "7", *options)
    rows = {one["attack"]: one for one in inside["evaluations"]}
    # what differs is where the draws come from: the trial's own seed there, a fixed one here
    seed = derive(rows["pgd"]["seed"], "evaluate", "test")
    monkeypatch.setattr(checkpoint, "SEED", seed)
    shutil.copy(study / "checkpoints/00007/last.pt", "copy.pt")
    outside, _ = evaluated(command, "--checkpoint", "copy.pt", *OUTSIDE, *options)
    assert outside["seed"] == seed
    assert list(outside["robust_accuracy"]) == ["fgsm", "pgd", "multi_targeted"]
    assert {name: one["robust_accuracy"] for name, one in rows.items()} == outside["robust_accuracy"]
    assert len({outside["clean_accuracy"], *outside["robust_accuracy"].values()}) == 4
    for one in rows.values():
        assert one["clean_accuracy"] == outside["clean_accuracy"]
        assert one["loss"] == pytest.approx(outside["loss"], rel=1e-6)
    assert rows["pgd"]["flags"] == list(outside["flags"])
    estimates = [name for name in outside if name.startswith("lipschitz") and not name.endswith("of_these")]
    assert len(estimates) == 8
    for name in estimates:
        assert rows["pgd"][name] == pytest.approx(outside[name], rel=1e-5), name
    (certified,) = inside["certified"]
    assert (certified["norm"], certified["epsilon"]) == ("linf", RADIUS)
    assert certified["attacks"] == ["pgd", "multi_targeted"]
    proved = {name: value for name, value in outside.items() if name.startswith("certified") or name.endswith("these")}
    assert len(proved) == 5
    assert {name: certified[name] for name in proved} == pytest.approx(proved, rel=1e-5)


@pytest.mark.long
def test_examples_of_a_trial_are_those_of_a_copy_of_its_file(command, study, monkeypatch):
    monkeypatch.setattr(bounds, "CERTIFIED_EXAMPLES", 6)
    monkeypatch.setattr(checkpoint, "CERTIFIED_EXAMPLES", 6)
    options = ("--limit", 12, "--attack", "all")
    inside, _ = evaluated(command, study, "--trial", "7", *options, "--examples", "inside.npz")
    monkeypatch.setattr(checkpoint, "SEED", derive(inside["evaluations"][0]["seed"], "evaluate", "test"))
    shutil.copy(study / "checkpoints/00007/last.pt", "copy.pt")
    evaluated(command, "--checkpoint", "copy.pt", *OUTSIDE, *options, "--examples", "outside.npz")
    with np.load("inside.npz") as own, np.load("outside.npz") as other:
        assert set(own) == set(other) >= {"clean", "fgsm", "pgd", "multi_targeted", "witness", "certified"}
        for name in other:
            assert own[name].shape == other[name].shape
            np.testing.assert_allclose(own[name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)
    uses = len(read_uses(study))
    evaluated(command, study, "--trial", "7", *options, "--examples", "again.npz")
    assert len(read_uses(study)) == uses
    with np.load("inside.npz") as own, np.load("again.npz") as again:
        assert all(np.array_equal(own[name], again[name]) for name in own)


@pytest.mark.parametrize("words", [("--front",), ("--trial", "7", "--trial", "8")])
def test_examples_of_several_trials_are_refused_before_anything_is_chosen(command, study, words):
    code, out, err = command("evaluate", study, *words, "--examples", "each.npz")
    assert (code, out) == (2, "")
    assert err.endswith("--examples has no use with studies/toy --front or several trials: name one with --trial ID\n")
    assert not (study / "chosen.json").exists()


def test_each_attack_on_a_trial_is_a_use_of_test_data_and_is_stored(command, study):
    found, err = evaluated(command, study, "--trial", "7", "--limit", IMAGES, "--attack", "multi_targeted")
    assert "2 measurements, 0 already there" in err
    result, rows = read_results(study).to_pylist()[0], read_uses(study)
    assert found["evaluations"] == rows == read_evaluations(study).to_pylist()
    assert [(one["attack"], one["examples"], one["steps"]) for one in rows] == [
        ("multi_targeted", IMAGES, STEPS), ("pgd", IMAGES, STEPS)
    ]  # fmt: skip
    assert uses_lines(rows)[0] == "test data was used twice: 1 network measured on 1 occasion"
    assert like_for_like(result, rows) == rows[1]
    assert rows[1]["lipschitz_examples"] == IMAGES
    outcomes = read_examples(examples_file(study, rows[0]["evaluation"]))
    assert sum(outcomes["robust_correct"].to_pylist()) / IMAGES == rows[0]["robust_accuracy"]
    again, err = evaluated(command, study, "--trial", "7", "--limit", IMAGES, "--attack", "multi_targeted")
    assert "2 measurements, 2 already there" in err
    assert again == found


def test_own_attack_of_the_former_signature_on_a_trial(command, study, monkeypatch):
    Path("users_own_attack.py").write_text(OWN_ATTACK)
    monkeypatch.syspath_prepend(".")
    words = (study, "--trial", "7", "--limit", IMAGES, "--attack", "users_own_attack:former")
    rows = {row["attack"]: row for row in evaluated(command, *words)[0]["evaluations"]}
    assert rows["users_own_attack:former"]["robust_accuracy"] == rows["pgd"]["robust_accuracy"]


def test_one_step_from_the_image_depends_on_no_steps_and_is_measured_once(command, study):
    words = (study, "--trial", "7", "--limit", 6, "--attack", "fgsm")
    evaluated(command, *words)
    found, err = evaluated(command, *words, "--steps", "5", "--restarts", "2")
    assert "2 measurements, 1 already there" in err
    assert sorted((one["attack"], one["steps"], one["restarts"]) for one in found["evaluations"]) == [
        ("fgsm", 1, 1), ("pgd", 3, 1), ("pgd", 5, 2)
    ]  # fmt: skip


def test_every_attack_that_is_listed_can_be_asked_for(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for attack in ATTACKS:
        assert parse_attacks(attack, always=("pgd",)) == (() if attack == "pgd" else (attack,))
    assert {"pgd", *parse_attacks(ALL, always=("pgd",))} == set(ATTACKS)


def test_another_norm_needs_a_radius_and_is_named_in_the_table(command, study):
    code, _, err = command("evaluate", study, "--trial", "7", "--norm", "l2")
    assert code == 2
    assert "--norm l2 needs --epsilon: the study's own radius 0.15 is meant in linf" in err
    code, _, err = command("evaluate", study, "--trial", "7", "--norm", "l2", "--epsilon", "9")
    assert code == 2
    assert "--epsilon must be in (0, 8] for l2, got 9" in err
    words = ("evaluate", study, "--trial", "7", "--norm", "l2", "--epsilon", "0.2", "--limit", "6")
    code, out, err = command(*words)
    assert code == 0, err
    assert "0.2 in l2" in out
    assert "Certified on test, within 0.2 in l2" in out
    assert "no file of the study holds them" in out
    (row,) = read_uses(study)
    assert (row["norm"], row["epsilon"]) == ("l2", 0.2)
    assert like_for_like(read_results(study).to_pylist()[0], [row]) is None


def test_bounds_lie_beside_what_was_found_on_the_same_images(command, study, monkeypatch):
    monkeypatch.setattr(bounds, "CERTIFIED_EXAMPLES", 4)
    (found,) = evaluated(command, study, "--trial", "7", "--limit", "8", "--epsilon", "0.01")[0]["certified"]
    assert found["certified_examples"] == found["certified_lipschitz_examples"] == 4
    assert 0 < found["certified_robust_accuracy"] <= found["robust_accuracy_worst_case_of_these"]
    assert found["certified_lipschitz_mean"] >= found["lipschitz_mean_of_these"] > 0
    (row,) = read_uses(study)
    outcomes = read_examples(examples_file(study, row["evaluation"])).slice(0, 4)
    assert found["robust_accuracy_worst_case_of_these"] == np.mean(outcomes["robust_correct"].to_pylist())
    assert found["lipschitz_mean_of_these"] == pytest.approx(np.mean(outcomes["lipschitz"].to_pylist()))


def test_fewer_lipschitz_estimates_than_bounds_are_compared_on_their_own_images():
    import torch

    from trainables.certified.certificate import Certificate

    proved = Certificate(torch.tensor([True, False, True]), torch.zeros(3), torch.tensor([4.0, 8.0, 100.0]))
    values = bounds.bracket(proved, robust=np.array([True, True, True, False]), lipschitz=np.array([1.0, 3.0]))
    assert values == {
        "certified_examples": 3, "certified_robust_accuracy": pytest.approx(2 / 3),
        "robust_accuracy_worst_case_of_these": 1, "certified_lipschitz_mean": 6, "lipschitz_mean_of_these": 2,
    }  # fmt: skip
    without = bounds.bracket(proved, robust=np.array([True, True, True]), lipschitz=np.empty(0))
    assert "certified_lipschitz_mean" not in without


def test_without_weights_the_rows_are_shown_and_a_note_says_why_there_are_no_bounds(command, study, finished):
    words = (study, "--trial", "7", "--limit", "6")
    assert len(evaluated(command, *words)[0]["certified"]) == 1
    own, kept = finished / "checkpoints/00007/last.pt", finished / "kept.pt"
    shutil.move(own, kept)
    (study / "checkpoints/00007/last.pt").unlink()
    try:
        found, err = evaluated(command, *words)
    finally:
        shutil.move(kept, own)
    assert (len(found["evaluations"]), found["certified"]) == (1, [])
    assert "no certified bounds of trial 00007: checkpoint" in err


def test_a_network_with_layers_without_bounds_is_measured_all_the_same(command, study, monkeypatch):
    from trainables.certified.translation import UnsupportedModuleError
    from trainables.evaluation import checkpoint as measuring

    def refuse(*_, **__):
        raise UnsupportedModuleError("module `odd` is a Tanh")

    monkeypatch.setattr(measuring, "certify", refuse)
    found, err = evaluated(command, study, "--trial", "7", "--limit", "6")
    assert (len(found["evaluations"]), found["certified"]) == (1, [])
    assert "no certified bounds of trial 00007: module `odd` is a Tanh" in err


# A study's own file


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_studys_own_file_is_refused_with_the_command_that_measures_it(command, study, name):
    Path("link.pt").symlink_to((study / "checkpoints/00007" / name).resolve())
    weights = " --checkpoint best" * (name == "best.pt")
    for file in (study / "checkpoints/00007" / name, "link.pt"):
        code, out, err = command("evaluate", "--checkpoint", file, *OUTSIDE)
        assert (code, out) == (2, "")
        assert err == (
            "robust-study: this is trial 00007 of studies/toy: "
            f"measure it with `robust-study evaluate studies/toy --trial 00007{weights}`\n"
        )
    assert not read_uses(study)


@pytest.mark.parametrize("place", ["elsewhere/toy", "s3://bucket/toy/"])
def test_so_is_one_where_a_study_of_the_working_folder_keeps_its_checkpoints(command, study, tmp_path, place):
    path = study / "study.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["storage"]["checkpoints"] = place if "://" in place else str(tmp_path / place)
    path.write_text(yaml.safe_dump(tree))
    (study / "confirm").mkdir()
    (study / "confirm/study.yaml").write_text(path.read_text())
    (study / "confirm/plan.json").write_text("{}")
    owner = read_owner(study)
    (study.parent / "broken").mkdir()
    (study.parent / "broken/study.yaml").write_text("name: [")
    for trial, home in {"00003": "studies/toy", "00003-s1": "studies/toy/confirm"}.items():
        with pytest.raises(UsageError, match=f"^this is trial {trial} of {home}: .* {home} --trial {trial}`$"):
            refuse_own(f"{place.rstrip('/')}/{owner.folder}/{trial}/last.pt")
    refuse_own(f"{place.rstrip('/')}-two/{owner.folder}/00003/last.pt")
    (study / OWNER_FILE).unlink()  # as of an earlier version
    with pytest.raises(UsageError, match=r"^this is trial 00003 of studies/toy: "):
        refuse_own(f"{place.rstrip('/')}/00003/last.pt")


def test_a_file_that_is_no_studys_is_not_refused(tmp_path):
    for file in ("last.pt", "checkpoints/00007/last.pt", "s3://bucket/00003/best.pt", tmp_path / "a" / "best.pt"):
        refuse_own(file)
