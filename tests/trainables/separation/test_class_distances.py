"""Separation: known sets, contradicting duplicates, and certificates that are never wrong."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data import load_raw
from trainables.data.synthetic import LINF_SEPARATION
from trainables.separation.distances import PAIRS, Example, contradicting, in_units, measure_separation


def grey(*rows):
    """Return images of one row each."""
    return np.array(rows, dtype=np.uint8)[:, None, None]


def measure(train, train_labels, test, test_labels, *, norm="linf", scale=255, **options):
    splits = {"train": (train, np.array(train_labels)), "test": (test, np.array(test_labels))}
    return measure_separation(splits, norm=norm, scale=scale, **options)


def least(images, labels, others, other_labels, *, norm):
    """Return the smallest distance over pairs of different labels, levels or squared levels; None without a pair."""
    distances = []
    for image, label in zip(images, labels, strict=True):
        for other, other_label in zip(others, other_labels, strict=True):
            if label != other_label:
                delta = np.abs(image.astype(int) - other.astype(int))
                distances.append(int(delta.max() if norm == "linf" else (delta**2).sum()))
    return min(distances, default=None)


def test_the_synthetic_set_has_its_stated_separation():
    raw, _ = load_raw("synthetic_separated", root=None)
    separation = measure(raw.train_images, raw.train_labels, raw.test_images, raw.test_labels)
    assert [part.minimum for part in separation.pairs] == [64, 64, 64]
    assert separation.two_r == separation.consistent_two_r == LINF_SEPARATION == 64 / 255
    assert separation.contradicting == ()


def test_the_closest_pair_is_named():
    separation = measure(grey([0, 9], [200, 9], [90, 0]), [0, 1, 1], grey([80, 0], [203, 9]), [0, 0])
    assert {part.pairs: part.minimum for part in separation.pairs} == {
        "train-train": 90,
        "test-train": 3,
        "test-test": None,
    }
    assert separation.pairs[1].closest == (Example("test", 1, 0), Example("train", 1, 1))
    assert separation.pairs[2].closest is None
    assert separation.two_r == 3 / 255


def test_units_are_exact_quotients():
    assert in_units(np.array([64, -1]), norm="linf", scale=255).tolist() == [64 / 255, math.inf]
    assert in_units(np.array([25, 0]), norm="l2", scale=16).tolist() == [5 / 16, 0.0]


def test_contradicting_duplicates_are_listed_with_both_minima():
    train = grey([10, 10], [10, 10], [50, 10], [10, 10], [90, 90])
    test = grey([90, 90], [50, 10], [130, 0])
    separation = measure(train, [0, 1, 1, 1, 0], test, [1, 1, 0])
    assert separation.contradicting == (
        (Example("train", 0, 0), Example("train", 1, 1), Example("train", 3, 1)),
        (Example("train", 4, 0), Example("test", 0, 1)),
    )
    assert separation.two_r == 0
    # Without them train has only [50, 10]; test has that and [130, 0] of the other label.
    assert [part.minimum for part in separation.pairs] == [0, 0, 80]
    assert [part.consistent_minimum for part in separation.pairs] == [None, 80, 80]
    assert separation.consistent_two_r == 80 / 255


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(seed=st.integers(0, 2**32 - 1), top=st.sampled_from([1, 2, 5]), counts=st.tuples(*[st.integers(1, 9)] * 2))
@settings(max_examples=60)
def test_both_minima_agree_with_brute_force(norm, seed, top, counts):
    random = np.random.default_rng(seed)
    parts = {
        split: (random.integers(0, top + 1, (count, 1, 1, 3), dtype=np.uint8), random.integers(0, 3, count))
        for split, count in zip(("train", "test"), counts, strict=True)
    }
    separation = measure_separation(parts, norm=norm, scale=255)
    everything = [
        (split, *example) for split, part in parts.items() for example in zip(range(len(part[1])), *part, strict=True)
    ]
    contradictions = {
        (split, index)
        for (split, index, image, label), (_, _, other, other_label) in product(everything, repeat=2)
        if label != other_label and np.array_equal(image, other)
    }
    assert {(example.split, example.index) for group in separation.contradicting for example in group} == contradictions
    for part in separation.pairs:
        sides = [parts[split] for split in PAIRS[part.pairs]]
        assert part.minimum == least(*sides[0], *sides[1], norm=norm)
        consistent = []
        for split in PAIRS[part.pairs]:
            images, labels = parts[split]
            rows = [index for index in range(len(labels)) if (split, index) not in contradictions]
            consistent += [images[rows], labels[rows]]
        assert part.consistent_minimum == least(*consistent, norm=norm)


def test_identical_images_of_one_label_do_not_contradict():
    images = grey([1, 2], [1, 2], [3, 4])
    assert contradicting({"train": (images, np.array([5, 5, 6]))}) == ()


def test_one_class_has_no_separation_and_infinite_radii():
    separation = measure(grey([1], [2]), [3, 3], grey([9]), [3])
    assert separation.two_r is None
    assert separation.certificate.radius.tolist() == [math.inf]
    assert separation.certificate.accuracy(1.0) == 1


def test_a_class_missing_from_train_is_always_wrong():
    separation = measure(grey([1], [2]), [0, 1], grey([9]), [2])
    assert separation.certificate.own.tolist() == [math.inf]
    assert separation.certificate.radius.tolist() == [0]
    assert separation.certificate.accuracy(0.0) == 0


def test_a_certificate_is_half_the_difference_and_strict():
    separation = measure(grey([0], [100]), [0, 1], grey([10], [50], [60]), [0, 0, 0])
    assert separation.certificate.radius.tolist() == [(90 - 10) / (2 * 255), 0, 0]
    assert separation.certificate.accuracy(40 / 255) == 0
    assert separation.certificate.accuracy(np.nextafter(40 / 255, 0)) == 1 / 3
    assert separation.certificate.accuracy(0.0) == 1 / 3  # the tie counts as wrong


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_no_point_within_a_certified_radius_changes_the_decision(norm, seed):
    """The points are a grid of quarter levels, whose squared distances are integers and compare exactly."""
    random = np.random.default_rng(seed)
    top, step = 6, 4
    train, labels = random.integers(0, top + 1, (6, 1, 1, 2), dtype=np.uint8), random.integers(0, 3, 6)
    test, truth = random.integers(0, top + 1, (4, 1, 1, 2), dtype=np.uint8), random.integers(0, 3, 4)
    radii = measure(train, labels, test, truth, norm=norm, scale=1).certificate.radius
    grid = np.stack(np.meshgrid(*[np.arange(-step, step * (top + 1) + 1)] * 2), -1).reshape(-1, 2)

    def distances(points, image):
        delta = np.abs(points - step * image.reshape(2).astype(int))
        return delta.max(axis=1) ** 2 if norm == "linf" else (delta**2).sum(axis=1)

    to_train = np.stack([distances(grid, image) for image in train], axis=1)
    for image, label, radius in zip(test, truth, radii, strict=True):
        inside = np.sqrt(distances(grid, image)) / step < radius
        own = to_train[:, labels == label].min(axis=1, initial=10**6)
        other = to_train[:, labels != label].min(axis=1, initial=10**6)
        assert (own < other)[inside].all()


def test_the_l2_radius_is_never_rounded_up():
    """Checked with exact arithmetic: e < (d2 - d1) / 2 with d1 = sqrt(a), d2 = sqrt(b) means (d1 + 2e)^2 < b."""
    from fractions import Fraction

    random = np.random.default_rng(3)
    train = random.integers(0, 256, (60, 1, 4, 4), dtype=np.uint8)
    test = random.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    separation = measure(train, np.arange(60) % 2, test, np.zeros(40, int), norm="l2", scale=1)
    other = separation.pairs[1].nearest.distance
    flat = train[::2].reshape(30, -1).astype(int)
    checked = 0
    for image, squared, radius in zip(
        test.reshape(40, -1).astype(int), other, separation.certificate.radius, strict=True
    ):
        if radius > 0:
            a = int(((flat - image) ** 2).sum(axis=1).min())
            # (sqrt(a) + 2e)^2 <= b, that is 2 * 2e * sqrt(a) <= b - a - 4e^2
            e = Fraction(float(radius))
            right = int(squared) - a - 4 * e * e
            assert right >= 0
            assert 16 * e * e * a <= right * right
            assert math.isclose(radius, (math.sqrt(squared) - math.sqrt(a)) / 2, rel_tol=1e-9)
            checked += 1
    assert checked > 5


def test_progress_runs_from_zero_to_all_pairs():
    raw, _ = load_raw("digits", root=None)
    states: list[tuple[str, int, int]] = []
    train, test = (raw.train_images[:400], raw.train_labels[:400]), (raw.test_images[:100], raw.test_labels[:100])
    splits = {"train": train, "test": test}
    measure_separation(splits, norm="linf", scale=16, on_progress=lambda *state: states.append(state))
    done = [state[1] for state in states]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, states[-1][2])
    assert set(PAIRS) < {state[0] for state in states}
