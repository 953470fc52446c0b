"""Options of `evaluate`, which has two forms: on a study's trials, and on any checkpoint without a study."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from study.commands.options import Norm
from study.errors import UsageError


class Normalise(StrEnum):
    """What is put before a bare network."""

    none = "none"
    data = "data"


Study = Annotated[
    Path | None,
    typer.Argument(metavar="[STUDY_DIR]", help="A study: measure trials of it. Without: --checkpoint FILE."),
]
Front = Annotated[
    bool, typer.Option("--front", help="Study: the front's members as validation chose them, spread along it.")
]
Trials = Annotated[
    list[str] | None, typer.Option("--trial", metavar="ID", help="Study: this trial; may be given more than once.")
]
Most = Annotated[int, typer.Option("--max", min=1, metavar="N", help="Study: most members of the front.")]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL|last|best",
        help="A torch checkpoint: a state dict, or a file of `train --save`. Study: which weights; else last.",
    ),
]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Registered model, or package.module:object.")]
Dataset = Annotated[str | None, typer.Option(metavar="NAME", help="Data set whose test split is measured.")]
Epsilon = Annotated[
    str | None,
    typer.Option(metavar="RADIUS", help="Radius in [0, 1] units, such as 0.1 or 8/255. Study: else its own."),
]
AnyNorm = Annotated[Norm | None, typer.Option(help="Norm of the radius; else linf. Study: else its own.")]
Attack = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Attack run beside FGSM and PGD: multi_targeted, autoattack, pgd, all; else all. "
        "Study: beside PGD, fgsm too; else pgd alone.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Steps of PGD and the multi-targeted attack; else 20. Study: else its own."),
]
Restarts = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Their random restarts; else 1. Study: else its own.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Measure the first so many test images in file order; else all. Study: else evaluation.examples.",
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npz", help="Write each image's outcomes and the Lipschitz witnesses here."),
]
Address = Annotated[
    str | None, typer.Option(help="Study: Ray cluster to measure on, auto or HOST:PORT; else in this process.")
]
Normalize = Annotated[
    Normalise | None,
    typer.Option(help="Before a bare network: pixels in [0, 1] (none), or standardised by the training split."),
]


def refuse(options: Mapping[str, Any], what: str, /) -> None:
    """Refuse options of the command's other form.

    Raises:
        UsageError: One was given.
    """
    for name, value in options.items():
        if value:
            raise UsageError(f"--{name} has no use with {what}")


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


def weights(checkpoint: str | None, /) -> Literal["last", "best"]:
    """Return which weights of a study's trials are meant.

    Raises:
        UsageError: A file, which is measured without a study.
    """
    if checkpoint in (None, "last"):
        return "last"
    if checkpoint == "best":
        return "best"
    raise UsageError(f"--checkpoint of a study's trials must be last or best, got {checkpoint!r}")
