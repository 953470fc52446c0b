"""Commands that train or measure one thing, without a cluster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from study.commands.options import AsJson, DataRoot, Norm

app = typer.Typer()


class Device(StrEnum):
    """What may compute distances."""

    cpu = "cpu"
    cuda = "cuda"


class Normalise(StrEnum):
    """What is put before a bare network."""

    none = "none"
    data = "data"


@app.command()
def train(
    source: Annotated[
        Path, typer.Argument(metavar="STUDY_DIR|SPEC.yaml", help="A study's folder, or one trial's spec.")
    ],
    trial: Annotated[str | None, typer.Option(metavar="ID", help="The trial of the study to train again.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the trained network here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the row as JSON.")] = False,
) -> None:
    """Train one trial alone, without Ray, and print its row; for a study's trial, say whether the rows agree."""
    from study.retrain import retrain

    retrain(source, trial=trial, save=save, as_json=as_json)


@app.command()
def evaluate(
    checkpoint: Annotated[
        str, typer.Option(metavar="FILE|URL", help="A torch checkpoint: a state dict, or a trial's own.")
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="Registered model, or package.module:object.")],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Data set whose test split is measured.")],
    epsilon: Annotated[str, typer.Option(metavar="RADIUS", help="Radius in [0, 1] units, such as 0.1 or 8/255.")],
    norm: Annotated[Norm, typer.Option(help="Norm of the radius.")] = Norm.linf,
    attack: Annotated[
        str, typer.Option(metavar="NAME", help="Attack run beside FGSM and PGD: multi_targeted, autoattack, pgd, all.")
    ] = "all",
    steps: Annotated[int, typer.Option(min=1, help="Steps of PGD and the multi-targeted attack.")] = 20,
    restarts: Annotated[int, typer.Option(min=1, help="Their random restarts.")] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Measure the first so many test images in file order.")
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Write each image's outcomes and the Lipschitz witnesses here."),
    ] = None,
    data_root: DataRoot = None,
    normalize: Annotated[
        Normalise, typer.Option(help="Before a bare network: pixels in [0, 1], or standardised by the training split.")
    ] = Normalise.none,
    as_json: AsJson = False,
) -> None:
    """Measure any torch checkpoint on a test split: clean, under attacks, local Lipschitzness, suspicious signs."""
    from study.candidate import Request
    from study.evaluate import evaluate_checkpoint, parse_attacks, parse_radius

    request = Request(
        checkpoint=checkpoint,
        model=model,
        dataset=dataset,
        data_root=data_root,
        norm=norm.value,
        epsilon=parse_radius(epsilon),
        attacks=parse_attacks(attack),
        steps=steps,
        restarts=restarts,
        limit=limit,
        examples=examples,
        normalisation=normalize.value,
    )
    evaluate_checkpoint(request, as_json=as_json)


@app.command()
def separation(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="A data set's name (see `list datasets`), or a folder of Parquet files."
        ),
    ],
    norm: Annotated[Norm, typer.Option(help="Norm of the distances.")] = Norm.linf,
    data_root: DataRoot = None,
    train_size: Annotated[
        int | None, typer.Option("--train", metavar="N", help="Take the first N training images; else all.")
    ] = None,
    test_size: Annotated[
        int | None, typer.Option("--test", metavar="N", help="Take the first N test images; else all.")
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option(metavar="E", help="Radius to judge by, such as 8/255; else a study's default, 0.1.")
    ] = None,
    device: Annotated[
        Device, typer.Option(help="cuda compares through torch (checked on the CPU's torch only).")
    ] = Device.cpu,
    out: Annotated[Path, typer.Option(help="Where the folder of the results is made.")] = Path("separation"),
    as_json: AsJson = False,
) -> None:
    """Measure exactly how far apart a data set's classes are, and what that certifies."""
    from study.separation import separation as measure

    measure(
        dataset,
        norm=norm.value,
        data_root=data_root,
        train=train_size,
        test=test_size,
        epsilon=epsilon,
        device=device.value,
        out=out,
        as_json=as_json,
    )
