"""`evaluate STUDY --distances`: upper bounds on validation, kept by trial, drawn by `figures`; test is not used."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.studies.trained_study import trained_study

from analysis.data.files import read_file
from analysis.data.results import read_results
from analysis.data.schema import DISTANCE
from analysis.heldout.members import CHOICE_FILE, read_uses
from analysis.plots.networks.distance_curves import distances_sheet, steps_of
from analysis.plots.studies.study_figures import paper_sheets
from analysis.statistics.networks.minimum_distances import MemberDistances, read_distances
from analysis.statistics.networks.radius_curves import Curve
from analysis.statistics.networks.separated_classifier import NAME
from study.config.schema import StudyConfig
from study.directory.layout import open_config
from study.evaluation import front_distances
from study.reports.material import collect
from study.reports.sources import gather
from trainables.data import load_dataset
from trainables.evaluation.checkpoint import load_trial
from trainables.evaluation.trial import measured_part

MEMBER = MemberDistances(
    study="a", trial_id="00001", method="natural", split="val", attack="PGD-10", norm="linf", epsilon=0.1, cap=0.4,
    distances=(0.0, 0.05, 0.3),
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return trained_study(tmp_path_factory.mktemp("finished"), "a", shared=None, trials=2)


@pytest.fixture
def study(finished, command, tmp_path):
    return shutil.copytree(finished, tmp_path / "studies" / "a")


def test_members_are_measured_once_on_validation_and_drawn(study, command, monkeypatch):
    code, out, err = command("evaluate", study, "--front", "--distances", "--limit", 6)
    assert code == 0, err
    assert "6 validation images" in err
    assert "test images are not used" in err
    assert "upper bounds" in out
    assert not read_uses(study)
    assert not (study / CHOICE_FILE).exists()
    members = read_distances(study)
    assert members
    config = open_config(study)
    _check_against_network(study, config, members[0])
    # again: nothing is measured
    monkeypatch.setattr(front_distances, "_measure", None)
    code, repeated, _ = command("evaluate", study, "--front", "--distances", "--limit", 6)
    assert (code, repeated) == (0, out)
    # nor for fewer images: the distances of the longer run stay
    code, repeated, _ = command("evaluate", study, "--front", "--distances", "--limit", 3)
    assert (code, repeated) == (0, out)
    code, out, _ = command("evaluate", study, "--trial", members[0].trial_id, "--distances", "--limit", 6, "--json")
    summary = json.loads(out)["distances"][0]
    assert summary["examples"] == 6
    assert summary["cap"] == pytest.approx(0.4)
    material = collect(gather([study]))
    sheet = next(sheet for sheet in paper_sheets(material) if sheet.name == "minimum_distance")
    assert {row[0] for row in sheet.rows} == {one.trial_id for one in members}
    last = [row[-1] for row in sheet.rows if row[0] == members[0].trial_id][-1]
    assert last == pytest.approx(members[0].within(0.4))


def _check_against_network(study, config: StudyConfig, member: MemberDistances) -> None:
    """The share at distance 0 is the network's error on these very images, and the distances are in file order."""
    from study.search.trial_specs import spec_of

    row = next(row for row in read_results(study).to_pylist() if row["trial_id"] == member.trial_id)
    data = load_dataset(config.dataset)
    spec = spec_of(config, study, row)
    cpu = torch.device("cpu")
    model, layout = load_trial(study / "checkpoints" / member.trial_id / "last.pt", spec, data, device=cpu)
    images, labels = measured_part(data.val, 6, scale=data.scale, layout=layout, device=cpu)
    wrong = (model(images).argmax(1) != labels).numpy()
    rows = read_file(study / DISTANCE.folder / f"{member.trial_id}.parquet", DISTANCE).to_pylist()
    assert [row["index"] for row in rows] == data.val.index[:6].tolist()
    assert [row["distance"] == 0 for row in rows] == wrong.tolist()
    assert {row["split"] for row in rows} == {"val"}


@pytest.mark.parametrize(("words", "line"), [
    (["--distances"], "--distances needs --front, or --trial ID"),
    (["--front", "--trial", "0", "--distances"], "not both"),
    (["--front", "--distances", "--attack", "pgd"], "--attack has no use with --distances"),
    (["--front", "--distances", "--epsilon", "0.1"], "--epsilon has no use with --distances"),
])  # fmt: skip
def test_invalid_input_is_one_line(study, command, words, line):
    code, out, err = command("evaluate", study, *words)
    assert (code, out) == (2, "")
    assert line in err
    assert not (study / DISTANCE.folder).exists()


def test_it_needs_a_study_and_its_weights(study, finished, command):
    code, _, err = command("evaluate", "--distances", "--checkpoint", "x.pt")
    assert code == 2
    assert "--checkpoint has no use with --distances" in err
    code, _, err = command("evaluate", "--distances")
    assert "--distances needs a study's folder" in err
    # a copied study's rows name the checkpoints of the original
    for folder in (study, finished):
        (folder / "checkpoints").rename(folder / "gone")
    code, _, err = command("evaluate", study, "--front", "--distances")
    (finished / "gone").rename(finished / "checkpoints")
    assert code == 2
    assert "are gone" in err
    assert not (study / DISTANCE.folder).exists()


def test_a_doubt_is_kept_and_named_and_an_older_file_has_none(study, command, monkeypatch):
    from dataclasses import replace

    from trainables.evaluation import checkpoint

    measured = checkpoint.adversarial_distances

    def doubtful(*inputs, **options):
        return replace(measured(*inputs, **options), flags=frozenset({"margin_stronger", "attack_failed"}))

    monkeypatch.setattr(checkpoint, "adversarial_distances", doubtful)
    code, out, err = command("evaluate", study, "--trial", "0", "--distances", "--limit", 4)
    assert code == 0, err
    assert "trial 00000 is doubtful: attack_failed, margin_stronger" in " ".join(out.split())
    (member,) = read_distances(study)
    assert member.summary()["flags"] == ["attack_failed", "margin_stronger"]
    path = study / DISTANCE.folder / f"{member.trial_id}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["flags"]), path)
    assert read_distances(study)[0].flags == ()


def test_shares_and_median_count_misclassified_images_as_0_and_none_found_as_infinite():
    member = MemberDistances(
        study="a", trial_id="00001", method="natural", split="val", attack="PGD-10", norm="linf", epsilon=0.1, cap=0.4,
        distances=(0.0, 0.05, 0.1, 0.3, np.inf),
    )  # fmt: skip
    assert member.within(0.0) == 0.2
    assert member.within(0.1) == 0.6
    assert member.median == 0.1
    assert member.summary()["none_found"] == pytest.approx(0.2)
    x, y = steps_of(member)
    assert x.tolist() == [0.0, 0.05, 0.1, 0.3, 0.4]
    assert y.tolist() == [0.2, 0.4, 0.6, 0.8, 0.8]


def test_the_figure_marks_the_radius_and_half_the_distance_between_classes(finished):
    from analysis.statistics.networks.theorem_radius import TheoremRadius

    table = read_results(finished)
    reach = TheoremRadius(dataset="digits", norm="linf", two_r=0.4, contradicting=0, consistent_two_r=0.4, examples=200)
    sheet = distances_sheet([MEMBER], table, reach=reach)
    (axes,) = sheet.figure.axes
    upright = {float(line.get_xdata()[0]) for line in axes.lines if len(set(line.get_xdata())) == 1}
    assert upright == {0.1, 0.2}
    labels = [text.get_text() for legend in sheet.figure.legends for text in legend.get_texts()]
    assert any("half the distance between classes, r = 0.2" in label for label in labels)


def test_the_certified_line_of_the_theorems_classifier_is_in_the_data(finished, monkeypatch):
    table = read_results(finished)
    curve = Curve(
        trial_id=NAME, method="", split="val", attack="certified", norm="linf", examples=3, radii=(0.0, 0.2, 0.4),
        accuracies=(1.0, 0.75, 0.5),
    )  # fmt: skip
    monkeypatch.setattr("analysis.plots.networks.distance_curves.classifier_point", lambda *_: object())
    sheet = distances_sheet([MEMBER], table, classifier=SimpleNamespace(curve=lambda *_, **__: curve))
    assert [row[-2:] for row in sheet.rows if row[0] == NAME] == [(0.0, 0.0), (0.2, 0.25), (0.4, 0.5)]
    assert {len(row) for row in sheet.rows} == {len(sheet.headings)}
