"""Train and test images as one training set: for the proof of concept alone, and in no registry.

It takes images that were read, not a data root, so no config can name it as a data set of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.data.proof_results import TRAIN_AND_TEST

if TYPE_CHECKING:
    from trainables.data.base import ImageData, RawImages, Split

WATCHED = 100
"""Images, of those trained on, whose accuracy is shown as the progress of training."""


@dataclass(frozen=True, kw_only=True)
class JointData:
    """A data set whose training split holds test images.

    Attributes:
        data: Its `train` is all the images together; `val` is the first `WATCHED` of them, which are trained on too.
        parts: The images of the source's training set and those of its test set, by `train` and `test`.
    """

    data: ImageData
    parts: dict[str, Split]


def joined(raw: RawImages, /, *, name: str, train: int | None, test: int | None) -> JointData:
    """Return images of both of a source's sets as one training set, in a random order by the data set's own seed.

    Args:
        raw: The source's images.
        name: The data set's name.
        train: How many images of the training set are used; all when None.
        test: How many of the test set.

    Raises:
        DataError: More images than there are.
    """
    import numpy as np

    from trainables.data.base import ImageData, Split
    from trainables.data.roots import DataError
    from trainables.data.splits import digest_of

    draws = np.random.RandomState(raw.split_seed)
    parts = {}
    for split, images, labels, count in (
        ("train", raw.train_images, raw.train_labels, train),
        ("test", raw.test_images, raw.test_labels, test),
    ):
        if count is not None and count > len(labels):
            raise DataError(f"{name} has {len(labels)} {split} images, got {count} to train on")
        index = draws.permutation(len(labels)).astype(np.int64)[:count]
        parts[split] = Split(images[index], labels[index].astype(np.int64), index)
    order = draws.permutation(sum(map(len, parts.values())))
    images, labels, index = (
        np.concatenate([getattr(part, field) for part in parts.values()])[order]
        for field in ("images", "labels", "index")
    )
    data = ImageData(
        name=f"{name} {TRAIN_AND_TEST}",
        class_names=raw.class_names,
        scale=raw.scale,
        train=Split(images, labels, index),
        val=Split(images[:WATCHED], labels[:WATCHED], index[:WATCHED]),
        test=None,
        split_hash=digest_of(parts["train"], parts["test"]),
        notes=raw.notes,
    )
    return JointData(data=data, parts=parts)
