"""The proof of concept trains on train and test together, says so everywhere, and is read by nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.structure.architecture import ROOT, all_imports
from helpers.studies.synthetic_results import study_rows

from analysis.data.files import read_file
from analysis.data.proof_results import PROOF, TRAIN_AND_TEST
from analysis.data.results import read_results, write_rows
from analysis.data.schema import RESULT, ResultsError
from analysis.plots.networks import staircase
from study.reproduce import proof_of_concept
from study.reproduce.joint_data import joined
from study.reproduce.proof_settings import ProofPart, proof_parts
from study.reproduce.request import TableRequest
from trainables.data import DataError, load_raw
from trainables.training.loop import Trainer

SMALL = {
    "name": "proof-of-concept-digits",
    "dataset": {"name": "digits", "train_size": 90},
    "model": {"name": "mlp"},
    "training": {"epochs": 2, "batch_size": 50, "lr": 0.05, "attack_steps": 1},
    "evaluation": {"epsilon": 0.1, "attack": "pgd", "steps": 2, "examples": 40, "every": 2,
                   "lipschitz": {"steps": 2, "restarts": 1, "examples": 5}},
    "search": {"space": "core", "num_trials": 1, "methods": ["adversarial_training"],
               "fixed": {"train_epsilon": 0.1, "dropout": 0.0}},
}  # fmt: skip

HOME = Path("studies/proof-of-concept-smoke")
ROWS = HOME / TRAIN_AND_TEST / "digits-adversarial_training.parquet"


@pytest.fixture
def small(monkeypatch, request):
    if "marked" not in request.node.name:  # elsewhere the figure is not drawn
        stub = SimpleNamespace(write=lambda folder: folder.mkdir(parents=True, exist_ok=True))
        monkeypatch.setattr(staircase, "staircase_sheet", lambda: stub)
    monkeypatch.setattr(proof_of_concept, "proof_parts", lambda _: [ProofPart(tree=SMALL, test=60)])


def test_every_network_is_measured_on_both_parts_and_marked_as_trained_on_test(small, command, monkeypatch):
    code, out, err = command("reproduce", "proof-of-concept")
    assert code == 0, err
    assert "TRAINED ON TEST" in out
    assert out.count(f"| {TRAIN_AND_TEST} |") == 2
    assert "No accuracy here says how a network does on images that it has not seen" in out
    assert f"trained on train and test together (split {TRAIN_AND_TEST})" in err
    rows = read_file(ROWS, PROOF).to_pylist()
    assert [(row["split"], row["part"], row["examples"]) for row in rows] == [
        (TRAIN_AND_TEST, "train", 40),
        (TRAIN_AND_TEST, "test", 40),
    ]
    assert {(row["train_images"], row["test_images"], row["dataset"]) for row in rows} == {
        (90, 60, f"digits {TRAIN_AND_TEST}")
    }
    assert all(row["robust_accuracy"] <= row["clean_accuracy"] and row["lipschitz_mean"] > 0 for row in rows)
    for suffix in ("md", "tex", "csv", "parquet"):
        assert (HOME / f"proof-of-concept.{suffix}").is_file()
    assert (HOME / "figures" / "staircase.pdf").is_file()
    assert "of ≤ 5 images of each part" in out
    for line, row in zip((line for line in out.splitlines() if line.startswith("| digits")), rows, strict=True):
        assert line.endswith(f"| {'flagged: ' + ', '.join(row['flags']) if row['flags'] else '-'} |")
    # again: nothing is trained
    monkeypatch.setattr(Trainer, "run_epoch", None)
    assert command("reproduce", "proof-of-concept")[:2] == (0, out)
    for words in ([], ["--dry-run"]):
        code, _, err = command("reproduce", "proof-of-concept", "--set", "training.epochs=3", *words)
        assert code == 2
        assert "was measured with other settings" in err


def test_rows_from_before_a_setting_are_those_of_its_former_value(proof, monkeypatch):
    rows = read_file(ROWS, PROOF).to_pylist()
    for row in rows:
        spec = json.loads(row["spec"])
        del spec["training"]["extra_share"]
        row["spec"] = json.dumps(spec)
    ROWS.unlink()
    write_rows(ROWS, rows, PROOF)
    monkeypatch.setattr(Trainer, "run_epoch", None)
    code, _, err = proof("reproduce", "proof-of-concept")
    assert code == 0, err


def test_rows_of_other_images_and_damaged_ones_are_refused(proof, monkeypatch):
    monkeypatch.setattr(proof_of_concept, "proof_parts", lambda _: [ProofPart(tree=SMALL, test=61)])
    code, out, err = proof("reproduce", "proof-of-concept")
    assert (code, out) == (2, "")
    assert "was measured on other images" in err
    ROWS.write_bytes(b"damaged")
    for words in ([], ["--dry-run"]):
        code, _, err = proof("reproduce", "proof-of-concept", *words)
        assert code == 2
        assert f"{ROWS} is damaged: move it away" in err
    ROWS.unlink()
    write_rows(ROWS, study_rows(1, failed=0), RESULT)
    code, _, err = proof("reproduce", "proof-of-concept")
    assert code == 2
    assert "must hold train+test result rows" in err


def test_training_resumes_after_the_last_epoch(small, command, monkeypatch):
    assert command("reproduce", "proof-of-concept", "--out", "whole")[0] == 0
    save = Trainer.save

    def killed(self, path, /):
        save(self, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", killed)
    assert command("reproduce", "proof-of-concept")[0] == 130
    assert not ROWS.exists()
    monkeypatch.setattr(Trainer, "save", save)
    code, _, err = command("reproduce", "proof-of-concept")
    assert code == 0
    assert "resumed after epoch 1" in err
    monkeypatch.setattr(Trainer, "save", killed)
    assert command("reproduce", "proof-of-concept", "--out", "others")[0] == 130
    monkeypatch.setattr(Trainer, "save", save)
    monkeypatch.setattr(proof_of_concept, "proof_parts", lambda _: [ProofPart(tree=SMALL, test=61)])
    code, _, err = command("reproduce", "proof-of-concept", "--out", "others")
    assert code == 0
    assert "resumed" not in err  # on other images
    whole = read_file("whole" / ROWS.relative_to("studies"), PROOF)
    names = PROOF.deterministic_columns()
    assert read_file(ROWS, PROOF).select(names).equals(whole.select(names))


@pytest.fixture
def proof(small, command):
    assert command("reproduce", "proof-of-concept")[0] == 0
    return command


def test_no_command_reads_or_mixes_its_results(proof):
    study = Path("plain")
    write_rows(study / "results" / "all.parquet", study_rows(6, failed=0), RESULT)
    shutil.copytree(study, "mixed")
    shutil.copy(ROWS, "mixed/results/00099.parquet")
    shutil.copytree(study, "measured")
    Path("measured/evaluations").mkdir()
    shutil.copy(ROWS, "measured/evaluations/00099.parquet")
    places = [HOME, ROWS.parent, ROWS, HOME / "proof-of-concept.parquet", Path("mixed")]
    commands = {
        "pareto": lambda place: ["pareto", place],
        "pareto of two": lambda place: ["pareto", study, place, "--allow-mixed"],
        "pareto on test": lambda place: ["pareto", place, "--split", "test"],
        "report": lambda place: ["report", place],
        "figures": lambda place: ["figures", place],
        "compare": lambda place: ["compare", study, place],
        "confirm": lambda place: ["confirm", place, "--seeds", 1],
        "evaluate": lambda place: ["evaluate", place, "--front"],
        "resume": lambda place: ["resume", place],
        "sync": lambda place: ["sync", place],
    }
    cases = [(name, HOME) for name in commands] + [("pareto", place) for place in places]
    cases += [("pareto on test", Path("measured"))]
    cases += [("report", ROWS), ("compare", ROWS), ("figures", Path("mixed"))]
    for name, place in cases:
        code, out, err = proof(*commands[name](place))
        if name == "pareto on test" and place.is_file():
            continue
        assert code == 2, (name, place)
        assert out == "", (name, place)
        assert f"trained on train and test together (split {TRAIN_AND_TEST})" in err, (name, place, err)
        assert len(err.strip().splitlines()) == 1, (name, place, err)
    code, _, err = proof("report", "measured")  # after its notes
    assert code == 2
    assert f"(split {TRAIN_AND_TEST})" in err.strip().splitlines()[-1]
    for place in (HOME, Path("mixed")):
        code, _, err = proof("export", place, "--out", "out.csv")
        assert code == 2
        assert f"(split {TRAIN_AND_TEST})" in err or "is not a study folder" in err
        assert not Path("out.csv").exists()
    for place in places:
        with pytest.raises(ResultsError, match="trained on train and test together"):
            read_results(place)


def test_its_network_is_not_measured_on_test_as_a_checkpoint(proof):
    (last,) = ROWS.with_suffix("").glob("*/last.pt")
    code, out, err = proof("evaluate", "--checkpoint", last, "--model", "mlp", "--dataset", "digits", "--epsilon", 0.1)
    assert (code, out) == (2, "")
    assert f"(split {TRAIN_AND_TEST})" in err


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (f"digits {TRAIN_AND_TEST}", "unknown data set"),
        (TRAIN_AND_TEST, "unknown data set"),
        ("study.reproduce.joint_data:joined", "must take one positional argument"),
    ],
)
def test_no_config_can_name_its_data(command, name, line):
    code, out, err = command("launch", "quickstart", "--set", f"dataset.name={name}", "--dry-run", "--allow-code")
    assert (code, out) == (2, "")
    assert line in err


def test_only_its_command_joins_the_images():
    importers = {line.file.name for line in all_imports(ROOT) if line.target == joined.__module__}
    assert importers == {"proof_of_concept.py"}


def test_the_joint_data_holds_the_images_of_both_sets_once():
    raw, name = load_raw("digits", root=None)
    joint = joined(raw, name=name, train=None, test=None)
    assert joint.data.test is None
    assert joint.data.name == f"digits {TRAIN_AND_TEST}"
    whole = np.concatenate([raw.train_images, raw.test_images]).reshape(-1, 64)
    both = np.concatenate([part.images for part in joint.parts.values()]).reshape(-1, 64)
    for images in (both, joint.data.train.images.reshape(-1, 64)):
        assert np.array_equal(images[np.lexsort(images.T)], whole[np.lexsort(whole.T)])
    for part, labels in (("train", raw.train_labels), ("test", raw.test_labels)):
        assert np.array_equal(joint.parts[part].labels, labels[joint.parts[part].index])
    few = joined(raw, name=name, train=50, test=20)
    assert {part: len(split) for part, split in few.parts.items()} == {"train": 50, "test": 20}
    assert few.data.split_hash != joint.data.split_hash
    with pytest.raises(DataError, match="digits has 360 test images, got 361 to train on"):
        joined(raw, name=name, train=None, test=361)


@pytest.mark.parametrize(("words", "line"), [
    (["--address", "auto"], "proof-of-concept trains in this process: leave --address out"),
    (["--set", "training.epoch=1"], "unknown key `training.epoch`"),
    (["--scale", "laptop"], "mnist: "),
])  # fmt: skip
def test_invalid_input_is_one_line_and_nothing_is_trained(command, monkeypatch, words, line):
    monkeypatch.setenv("ROBUST_STUDY_DATA", "nowhere")
    code, out, err = command("reproduce", "proof-of-concept", *words)
    assert (code, out) == (2, "")
    assert line in err
    assert not list(Path().glob(f"studies/*/{TRAIN_AND_TEST}"))


def test_the_scales_hold_the_papers_data_and_a_subset_for_a_laptop():
    (smoke,), (laptop,) = proof_parts("smoke"), proof_parts("laptop")
    assert smoke.tree["dataset"]["name"] == "digits"
    assert (laptop.tree["dataset"]["train_size"], laptop.test, laptop.tree["evaluation"]["epsilon"]) == (
        2000,
        1000,
        0.1,
    )
    request = TableRequest(table="proof-of-concept", scale="paper", out=Path("studies"))
    assert "this project's training" in request.remark
    assert [part.tree["dataset"]["name"] for part in proof_parts("paper")] == [
        "mnist", "cifar10", "svhn", "restricted_imagenet",
    ]  # fmt: skip


def test_a_dry_run_estimates_and_starts_nothing(small, command):
    code, out, _ = command("reproduce", "proof-of-concept", "--dry-run")
    assert code == 0
    assert "TRAINED ON TEST" in out
    assert "90 train and 60 test images, 2 epochs" in out
    assert "time: about" in out
    assert out.endswith("nothing was started\n")
    assert not HOME.exists()
