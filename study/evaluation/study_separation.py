"""The theorem's classifier on a study's own images: measured when it ends, and by `separation STUDY_DIR`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.schema import ResultsError
from analysis.fronts.front import mixed_columns
from analysis.statistics.networks.separated_classifier import (
    FILE,
    ClassifierPoint,
    SeparatedClassifier,
    classifier_point,
    read_classifier,
)
from study.config.schema import StudyConfig
from study.console import PairProgress, notes, quoted, results
from study.directory.layout import CONFIG_FILE, open_config
from study.directory.rows import read_rows, require_same_images
from study.errors import UsageError, short, usage_errors
from study.evaluation.separation import radius_of

if TYPE_CHECKING:
    from trainables.data.base import ImageData

UNASKED_SECONDS = 60.0
"""Longest time, by an estimate from the number of images, that the distances may take when a study ends."""

_PAIRS_A_SECOND = 30e6
"""Pairs of images that a core compares: of CIFAR-10 in l2; of MNIST it is three to five times as many."""

_BYTES_A_SECOND = 2e8
"""Pixels that are brought into the order of the comparison."""


def command_for(study_dir: Path, /) -> str:
    """Return the command that measures a study's classifier."""
    return f"robust-study separation {quoted(study_dir)}"


def estimated_seconds(data: ImageData, /) -> float:
    """Return how long the distances of a study's images take at most, on the cores that this process may use."""
    from trainables.separation.classifier import pairs_compared
    from trainables.separation.nearest import available_cores

    pairs = pairs_compared(len(data.train), len(data.val))
    pixels = data.train.images.nbytes + data.val.images.nbytes
    return pairs / (_PAIRS_A_SECOND * available_cores()) + pixels / _BYTES_A_SECOND


def measure_at_end(config: StudyConfig, study_dir: Path, table: Any, /, *, ended: Callable[[], bool] = bool) -> None:
    """Measure the classifier of a complete study once, if that takes less than a minute.

    What fails or takes longer is told in a line and costs the study nothing.

    Args:
        config: The study's config.
        study_dir: Its folder.
        table: Its result rows.
        ended: Asked while images are compared; once it is true, the rest is left for the next `resume`.
    """
    from trainables.data import load_dataset

    try:
        if read_classifier(study_dir, table) is not None:
            return
        data = load_dataset(config.dataset).without_test()
        require_same_images(table.to_pylist(), data.split_hash, name=data.name, remedy="--set dataset.root=FOLDER")
        seconds = estimated_seconds(data)
        if seconds > UNASKED_SECONDS:
            notes().print(
                f"the distances between its images may take {seconds:,.0f} s, so the theorem's classifier is not "
                f"measured; measure it with: {command_for(study_dir)}"
            )
            return
        notes().print("measuring the separated-data classifier on the study's train and validation images ...")
        # estimates can be wrong; a study that is over should not wait for long
        _measure(config, study_dir, data, ended=ended, until=time.monotonic() + 2 * UNASKED_SECONDS)
    except Exception as error:  # noqa: BLE001 - the results are on disk, so a failure here must not fail the study
        notes().print(f"no separated-data classifier ({short(error)}); measure it with: {command_for(study_dir)}")


def separation_of_study(
    study_dir: Path, /, *, data_root: Path | None = None, epsilon: str | None = None, as_json: bool = False
) -> None:
    """Measure a study's classifier, however long it takes, keep it in the study's folder, and print it.

    Args:
        study_dir: The study's folder.
        data_root: Folder of the data set's files; as in the study when None.
        epsilon: Radius of the certified accuracy, such as 8/255; the study's when None.
        as_json: Print one JSON object.

    Raises:
        UsageError: No study, no results yet, an invalid radius, or the data set is missing or holds other images.
    """
    from trainables.data import DataError, load_dataset
    from trainables.registry import UnknownNameError

    config = open_config(study_dir)
    radius = config.evaluation.epsilon if epsilon is None else radius_of(epsilon, config.evaluation.norm)
    table = read_rows([study_dir])
    if not table.num_rows:
        raise UsageError(f"{study_dir} has no results yet: run `robust-study resume {quoted(study_dir)}`")
    if data_root is not None:
        config = config.model_copy(update={"dataset": replace(config.dataset, root=str(data_root))})
    with usage_errors(DataError, UnknownNameError):
        data = load_dataset(config.dataset).without_test()
    require_same_images(table.to_pylist(), data.split_hash, name=data.name, remedy="--data-root FOLDER")
    with PairProgress() as progress:
        classifier = _measure(config, study_dir, data, on_progress=progress.update)
    reach = classifier.reach()
    point = classifier_point(classifier, table)
    examples = len(classifier.certified_radius) if point is None else point.examples
    shown = ClassifierPoint(
        clean=classifier.clean_accuracy(examples=examples),
        certified=classifier.certified_accuracy(radius, examples=examples),
        epsilon=radius,
        examples=examples,
        reach=reach,
    )
    if as_json:
        facts = {
            "dataset": classifier.dataset, "norm": classifier.norm, "train_images": classifier.train_images,
            "two_r": classifier.two_r, "two_r_without_contradicting": classifier.consistent_two_r,
            "contradicting": classifier.contradicting, "epsilon": radius, "val_images": examples,
            "val_clean_accuracy": shown.clean, "certified_val_accuracy_at_epsilon": shown.certified,
            "file": str(study_dir / FILE),
        }  # fmt: skip
        results().print(json.dumps(facts, indent=2))
        return
    results().print(f"{shown.sentence}.")
    notes().print(f"wrote {study_dir / FILE}; draw it with: robust-study pareto {quoted(study_dir)}")


def note_missing(study_dir: Path, table: Any, /) -> None:
    """Say how to get the classifier of a study that has none, where there is a study and its rows are of one kind."""
    if (study_dir / CONFIG_FILE).is_file() and not mixed_columns(table):
        notes().print(
            "the theorem's classifier is not measured on this study's images; measure and keep it with: "
            f"{command_for(study_dir)}"
        )


def known_classifier(study_dir: Path, table: Any, /) -> SeparatedClassifier | None:
    """Return the classifier kept in a study's folder; None without one, or where its file is damaged, with a note."""
    try:
        return read_classifier(study_dir, table)
    except ResultsError as error:
        notes().print(f"skipped: {error}")
        return None


def _measure(
    config: StudyConfig,
    study_dir: Path,
    data: ImageData,
    /,
    *,
    ended: Callable[[], bool] = bool,
    until: float = math.inf,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> SeparatedClassifier:
    from trainables.checkpoints.files import write_text
    from trainables.separation.classifier import measure_classifier

    def advance(what: str, done: int, total: int) -> None:
        if ended():
            raise TimeoutError("the study was told to stop")
        if time.monotonic() > until:
            raise TimeoutError(f"stopped after {done / total:.0%} of the distances, which take too long")
        on_progress(what, done, total)

    norm = config.evaluation.norm
    found = measure_classifier(data.train, data.val, norm=norm, scale=data.scale, on_progress=advance)
    apart, bad = found.separation, found.contradicting
    certified = zip(found.certificate.radius.tolist(), found.correct.tolist(), strict=True)
    classifier = SeparatedClassifier(
        dataset=data.name,
        split_hash=data.split_hash,
        norm=norm,
        train_images=len(data.train),
        two_r=_least(apart.tolist()),
        contradicting=int(bad.sum()),
        consistent_two_r=_least(apart[~bad].tolist()),
        certified_radius=[radius if right else None for radius, right in certified],
    )
    write_text(study_dir / FILE, classifier.text())
    return classifier


def _least(distances: list[float]) -> float | None:
    least = min(distances, default=math.inf)
    return least if math.isfinite(least) else None
