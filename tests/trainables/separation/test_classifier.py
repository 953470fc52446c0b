"""The theorem's classifier on a study's own images: brute force, attacks on certified images, its file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data import load_dataset
from trainables.data.base import Split
from trainables.separation.classifier import measure_classifier, pairs_compared
from trainables.spec import DatasetSpec

SCALE = 8


def part(rows, labels):
    images = np.array(rows, dtype=np.uint8).reshape(len(rows), 1, 1, -1)
    return Split(images, np.array(labels, dtype=np.int64), np.arange(len(rows)))


def distances(points, images, norm):
    """Distances of points in [0, 1], (m, d), to images, (n, d)."""
    difference = np.abs(points[:, None] - images[None].reshape(len(images), -1) / SCALE)
    return difference.max(axis=2) if norm == "linf" else np.sqrt((difference**2).sum(axis=2))


def predictions(points, train, norm):
    """The class of the nearest training image; -1 on a tie of classes."""
    far = distances(points, train.images, norm)
    nearest = np.array([far[:, train.labels == label].min(axis=1) for label in np.unique(train.labels)])
    best, second = np.sort(nearest, axis=0)[:2]
    return np.where(best < second, np.unique(train.labels)[nearest.argmin(axis=0)], -1)


@st.composite
def problems(draw):
    rows = st.lists(st.integers(0, SCALE), min_size=2, max_size=2)
    train = draw(st.lists(rows, min_size=3, max_size=7))
    val = draw(st.lists(rows, min_size=1, max_size=4))
    labels = [0, 1, *draw(st.lists(st.integers(0, 2), min_size=len(train) - 2, max_size=len(train) - 2))]
    return part(train, labels), part(val, draw(st.lists(st.integers(0, 2), min_size=len(val), max_size=len(val))))


@settings(max_examples=60)
@given(problems(), st.sampled_from(["linf", "l2"]), st.integers(0, 1000))
def test_it_is_brute_force_and_no_perturbation_within_a_certified_radius_changes_it(problem, norm, seed):
    train, val = problem
    found = measure_classifier(train, val, norm=norm, scale=SCALE)
    apart = distances(train.images.reshape(len(train), -1) / SCALE, train.images, norm)
    apart[train.labels[:, None] == train.labels[None]] = np.inf
    np.testing.assert_allclose(found.separation, apart.min(axis=1))
    assert found.contradicting.tolist() == (apart == 0).any(axis=1).tolist()
    clean = val.images.reshape(len(val), -1) / SCALE
    right = predictions(clean, train, norm) == val.labels
    assert found.correct.tolist() == right.tolist()
    far = distances(clean, train.images, norm)
    for row, (label, radius) in enumerate(zip(val.labels, found.certificate.radius, strict=True)):
        if not right[row]:
            assert radius == 0
            continue
        own, other = far[row, train.labels == label].min(), far[row, train.labels != label].min()
        assert radius == pytest.approx((other - own) / 2, abs=1e-12)
        assert radius <= (other - own) / 2
        attacked = clean[row] + perturbations(np.random.default_rng(seed), 300, radius * (1 - 1e-9), norm)
        to_others = train.images.reshape(len(train), -1) / SCALE - clean[row]
        length = np.abs(to_others).max(axis=1) if norm == "linf" else np.linalg.norm(to_others, axis=1)
        towards = clean[row] + to_others * np.minimum(1, radius * (1 - 1e-9) / np.maximum(length, 1e-12))[:, None]
        assert (predictions(np.concatenate([attacked, towards]), train, norm) == label).all()


def perturbations(generator, count, epsilon, norm):
    """Random ones on the sphere of the radius and, for linf, at its corners, in two dimensions."""
    if norm == "l2":
        angles = generator.uniform(0, 2 * np.pi, count)
        return epsilon * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return epsilon * np.where(
        np.arange(count)[:, None] % 2, generator.choice([-1, 1], (count, 2)), generator.uniform(-1, 1, (count, 2))
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_beyond_the_certified_radius_some_point_is_taken_for_another_class(norm):
    train, val = part([[0, 0], [8, 0]], [0, 1]), part([[2, 0]], [0])
    (radius,) = measure_classifier(train, val, norm=norm, scale=SCALE).certificate.radius
    assert radius == pytest.approx(0.25)
    assert predictions(np.array([[0.25 + 0.24, 0]]), train, norm) == 0
    assert predictions(np.array([[0.25 + 0.26, 0]]), train, norm) == 1


def test_digits_are_certified_against_gradients_of_the_distances():
    """A step straight to the nearest image of another class is the best attack; the certified ones survive it."""
    data = load_dataset(DatasetSpec(name="digits", train_size=300)).without_test()
    found = measure_classifier(data.train, data.val, norm="linf", scale=data.scale)
    images, epsilon = data.train.images.reshape(len(data.train), -1) / data.scale, 0.1
    certified = np.flatnonzero(found.certificate.radius > epsilon)
    assert 20 < len(certified) < len(data.val)
    for row in certified[:20]:
        clean = data.val.images[row].reshape(-1) / data.scale
        steps = clean + np.clip(images - clean, -epsilon, epsilon)
        far = np.abs(steps[:, None] - images[None]).max(axis=2)
        assert (data.train.labels[far.argmin(axis=1)] == data.val.labels[row]).all()


def test_progress_counts_all_pairs_and_what_it_raises_ends_the_comparison():
    train, val = part([[0, 0], [8, 0], [3, 3]], [0, 1, 1]), part([[2, 0], [1, 1]], [0, 1])
    seen = []
    measure_classifier(train, val, norm="linf", scale=SCALE, on_progress=lambda *now: seen.append(now[1:]))
    assert seen[0] == (0, pairs_compared(3, 2))
    assert seen[-1] == (21, 21)

    def stop(*_):
        raise TimeoutError("too long")

    with pytest.raises(TimeoutError, match="too long"):
        measure_classifier(train, val, norm="linf", scale=SCALE, on_progress=stop)


def test_one_label_alone_is_right_everywhere():
    found = measure_classifier(part([[0, 0], [1, 1]], [0, 0]), part([[5, 5]], [0]), norm="l2", scale=SCALE)
    assert found.certificate.radius.tolist() == [np.inf]
    assert found.correct.tolist() == [True]
    assert found.separation.tolist() == [np.inf, np.inf]
