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
    typer.Argument(metavar="STUDY_DIR", help="Study whose trials are measured; leave it out with --checkpoint FILE."),
]
Front = Annotated[
    bool, typer.Option("--front", help="Study only: measure the front's members, as chosen on validation.")
]
Trials = Annotated[
    list[str] | None, typer.Option("--trial", metavar="ID", help="Study only: measure this trial; repeatable.")
]
Most = Annotated[
    int,
    typer.Option("--max", min=1, metavar="N", help="Study only: maximum number of members, spread along the front."),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL|last|best",
        help="A torch checkpoint: a state dict, or a file of `train --save`. With a study, which weights. "
        "[default with a study: last]",
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
    typer.Option(metavar="RADIUS", help="Radius, e.g. 8/255. [default: the study's own; required without a study]"),
]
AnyNorm = Annotated[Norm | None, typer.Option(help="Norm of the radius. [default: linf; with a study its own]")]
Attack = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Attack to run besides PGD: multi_targeted, autoattack, pgd, all; with a study also fgsm, which is always "
        "run without one. [default: all; pgd with a study]",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Steps of PGD and multi_targeted. [default: 20; with a study its own]"),
]
Restarts = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Random restarts of both. [default: 1; with a study its own]")
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Measure the first N test images in file order. [default: all; evaluation.examples with a study]",
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npz", help="Checkpoint only: file for each image's outcomes and Lipschitz witnesses."),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT", help="Study only: Ray cluster to measure on. [default: none; measure in this process]"
    ),
]
Normalize = Annotated[
    Normalise | None,
    typer.Option(
        help="Checkpoint only: input of a bare network, pixels in [0, 1] (none) or standardised by the training split. "
        "[default: none]"
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
