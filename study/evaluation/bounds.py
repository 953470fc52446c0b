"""Certified bounds on the first test images, beside what was found on the same ones; printed, stored in no row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from study.console import StageProgress, notes

if TYPE_CHECKING:
    from analysis.tables.text_table import TextTable
    from study.evaluation.jobs import MeasurementJob
    from trainables.certified.certificate import Certificate
    from trainables.data.base import ImageData

CERTIFIED_EXAMPLES = 100
"""Bounds take up to a tenth of a second an image of a small network, and their share needs no more images."""


def bracket(
    certificate: Certificate, /, *, robust: NDArray[np.bool_], lipschitz: NDArray[np.float64]
) -> dict[str, float]:
    """Return what is proved of the first images, and what was found on the same ones.

    Args:
        certificate: Bounds of the first k images.
        robust: Correct under every attack that was run, (n,) with n at least k.
        lipschitz: Local Lipschitz estimates of the first m images, (m,); without any, their mean is left out.
    """
    correct, upper = certificate.certified_correct, certificate.lipschitz_upper
    count = len(correct)
    values = {
        "certified_examples": count,
        "certified_robust_accuracy": float(correct.double().mean()),
        "robust_accuracy_worst_case_of_these": float(robust[:count].mean()),
    }
    if len(lipschitz):
        both = min(count, len(lipschitz))
        values |= {
            "certified_lipschitz_mean": float(upper[:both].mean()),
            "lipschitz_mean_of_these": float(lipschitz[:both].mean()),
        }
    return values


def certificates(jobs: Sequence[MeasurementJob], data: ImageData, /) -> dict[str, Certificate]:
    """Return the bounds of each trial that was measured, by its id.

    A trial whose network has layers without bounds, or whose files are gone, is named in a note and left out.

    Args:
        jobs: Measurements of trials at one norm and radius; of each trial the one with the Lipschitz estimate first.
        data: The data set with its test split.
    """
    from trainables.certified.translation import UnsupportedModuleError
    from trainables.checkpoints.format import CheckpointError
    from trainables.evaluation.checkpoint import certify_checkpoint

    first = {job.row["trial_id"]: job for job in reversed(jobs)}
    measured = {trial: first[trial].spec for trial in reversed(first) if first[trial].done}
    proofs = {}
    with StageProgress() as progress:
        for trial, spec in measured.items():
            count = min(CERTIFIED_EXAMPLES, spec.examples)
            progress.report(f"certify trial {trial}", 0, count)
            try:
                proofs[trial] = certify_checkpoint(replace(spec, examples=count), data)
            except (UnsupportedModuleError, CheckpointError, OSError) as error:
                notes().print(f"no certified bounds of trial {trial}: {error}")
            progress.report(f"certify trial {trial}", count, count)
    return proofs


def certified_trials(
    jobs: Sequence[MeasurementJob], certificates: Mapping[str, Certificate], /
) -> list[dict[str, Any]]:
    """Return trials' bounds, as `certificates` gives them, beside what was found on the same images.

    A trial whose outcomes cannot be read is named in a note and left out.
    """
    from analysis.data.results import examples_file, read_examples
    from analysis.data.schema import ResultsError

    trials = []
    for trial, certificate in certificates.items():
        done = [job for job in jobs if job.done and job.row["trial_id"] == trial]
        spec = done[0].spec
        try:
            outcomes = [read_examples(examples_file(job.folder, job.key)) for job in done]
        except (ResultsError, OSError) as error:
            notes().print(f"no certified bounds of trial {trial}: {error}")
            continue
        robust = [table["robust_correct"].to_numpy(zero_copy_only=False) for table in outcomes]
        estimated = spec.lipschitz.examples if spec.lipschitz is not None and spec.epsilon > 0 else 0
        lipschitz = outcomes[0]["lipschitz"].to_numpy(zero_copy_only=False)[:estimated]
        values = bracket(certificate, robust=np.logical_and.reduce(robust), lipschitz=lipschitz)
        trials.append(
            {
                "trial_id": trial,
                "checkpoint": done[0].checkpoint,
                "norm": spec.norm,
                "epsilon": spec.epsilon,
                "attacks": [job.spec.attack for job in done],
                "certified_lipschitz_examples": min(values["certified_examples"], len(lipschitz)),
                **values,
            }
        )
    return trials


def bounds_table(trials: Sequence[Mapping[str, Any]], /) -> TextTable:
    """Return the bounds of trials, as `certified_trials` gives them, as a table."""
    from analysis.tables.text_table import TextTable
    from analysis.wording import LOWER_BOUND

    rows = [
        (
            one["trial_id"], one["checkpoint"], one["certified_examples"], one["certified_robust_accuracy"],
            one["robust_accuracy_worst_case_of_these"], one["certified_lipschitz_examples"],
            one.get("lipschitz_mean_of_these"), one.get("certified_lipschitz_mean"), ", ".join(one["attacks"]),
        )
        for one in trials
    ]  # fmt: skip
    headings = ("trial", "weights", "images", "robust, certified", "robust, found")
    first = trials[0]
    return TextTable(
        title=f"Certified on test, within {first['epsilon']:.6g} in {first['norm']}",
        headings=(*headings, "Lipschitz images", "Lipschitz, found", "Lipschitz, certified", "attacks"),
        formats=("", "", "d", ".4f", ".4f", "d", ".5g", ".5g", ""),
        rows=tuple(rows),
        notes=(
            "robust: share of the images; found is under the attacks named, certified holds at every point of the ball",
            f"Lipschitz: mean; found is {LOWER_BOUND}, certified an upper bound on the same images",
            "certified values are printed only: no file of the study holds them",
        ),
    )
