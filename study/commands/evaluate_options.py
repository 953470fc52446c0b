"""Options of `evaluate`, which has two forms: on a study's trials, and on any checkpoint without a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from study.errors import UsageError
from trainables.spec import Norm

Study = Annotated[
    Path | None,
    typer.Argument(metavar="STUDY_DIR", help="Study whose trials are measured; leave it out with --checkpoint FILE."),
]
Front = Annotated[
    bool, typer.Option("--front", help="Study only: the trials on the front, chosen on the validation split.")
]
Trials = Annotated[list[str] | None, typer.Option("--trial", metavar="ID", help="Study only: this trial; repeatable.")]
Most = Annotated[
    int,
    typer.Option("--max", min=1, metavar="N", help="Study only: maximum number of front trials, spread along it."),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL|last|best",
        help="Without a study: a torch checkpoint, a state dict or a file of `train --save`. With a study: which saved "
        "weights. [default with a study: last]",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Checkpoint only: model, a name (see `list models`), or package.module:object."),
]
Dataset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Checkpoint only: data set whose test split is used.")
]
Epsilon = Annotated[
    str | None,
    typer.Option(metavar="RADIUS", help="Radius, e.g. 8/255. [default: the study's; required without a study]"),
]
AnyNorm = Annotated[
    Norm | None, typer.Option(help="Norm of the perturbation. [default: linf; with a study the study's]")
]
Attack = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Attack to run in addition: a registered one (see `list attacks`), package.module:object, or all. Without "
        "a study FGSM and PGD are always run, with one its own evaluation.attack. [default: all; with a study none]",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Steps of the attacks. [default: 20; with a study the study's]"),
]
Restarts = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Random restarts of the attacks. [default: 1; with a study the study's]"),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Measure the first N test images in file order (validation images with --distances). [default: all; "
        "evaluation.examples with a study]",
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz",
        help="Write per-image outcomes and the points that attain the Lipschitz estimates here. With a study: for one "
        "--trial.",
    ),
]
Distances = Annotated[
    bool,
    typer.Option(
        "--distances",
        help="Study only: instead of test, measure on validation how near to each image an adversarial example is, by "
        "bisection over radii with the study's own attack up to four times its radius; `figures` draws it.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT", help="Study only: Ray cluster to measure on. [default: none; measure in this process]"
    ),
]
Normalize = Annotated[
    Literal["none", "data"] | None,
    typer.Option(
        help="Checkpoint only: input of a network without its own normalisation layer: pixels in [0, 1] (none), or "
        "standardised with the training split's mean and deviation (data). [default: the file's own, else none]"
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Checkpoint only: which weights, e.g. ema, where the file holds several that fit and differ. [default: "
        "none; the error lists them]",
    ),
]


def refuse(options: Mapping[str, Any], what: str, /) -> None:
    """Refuse options of the command's other form.

    Raises:
        UsageError: One was given.
    """
    for name, value in options.items():
        if value:
            raise UsageError(f"--{name} has no use with {what}")


def check_folder_of(examples: Path | None, /) -> None:
    """Check that the folder of `--examples` exists.

    Raises:
        UsageError: It does not.
    """
    if examples is not None and not examples.parent.is_dir():
        raise UsageError(f"--examples: folder {examples.parent} does not exist")


def required(**options: str | float | None) -> dict[str, str | float]:
    """Return the options that the form without a study needs.

    Raises:
        UsageError: One was not given.
    """
    for name, value in options.items():
        if value is None:
            raise UsageError(
                f"--{name} is required: give {', '.join(f'--{each}' for each in options)}, or a study's folder with "
                "--front or --trial ID"
            )
    return {name: value for name, value in options.items() if value is not None}
