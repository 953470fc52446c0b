"""The command line: each command says what it does and imports what it needs when it runs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from study.errors import UsageError

app = typer.Typer(
    name="robust-study",
    help="Launch studies of adversarial robustness, explore them in MLflow, export their Pareto fronts.",
    epilog="Start with: robust-study launch quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

StudyDir = Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="A study's folder, such as studies/quickstart.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the data sets; else dataset.root, ROBUST_STUDY_DATA, a per-user cache.")
]


class Split(StrEnum):
    """Splits a front may be shown on."""

    val = "val"
    test = "test"


class Norm(StrEnum):
    """Norms distances are measured in."""

    linf = "linf"
    l2 = "l2"


class Device(StrEnum):
    """What may compute distances."""

    cpu = "cpu"
    cuda = "cuda"


class Normalise(StrEnum):
    """What is put before a bare network."""

    none = "none"
    data = "data"


class Catalogue(StrEnum):
    """What `list` lists."""

    methods = "methods"
    datasets = "datasets"
    models = "models"
    spaces = "spaces"
    attacks = "attacks"
    presets = "presets"


@app.command()
def launch(
    config: Annotated[str, typer.Argument(metavar="CONFIG|PRESET", help="A study's YAML file, or a preset's name.")],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a config key, e.g. search.num_trials=4."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on: auto or HOST:PORT; else Ray starts on this machine.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the study's folder is made.")] = Path("studies"),
    data_root: DataRoot = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, estimate time and disk, start nothing.")
    ] = False,
) -> None:
    """Run a new study: search, train, measure, track; then draw its Pareto front."""
    from study.launch import dry_run as estimate
    from study.launch import launch as start

    action = estimate if dry_run else start
    action(config, assignments=assignments or [], out=out, data_root=data_root, address=address)


@app.command()
def resume(study_dir: StudyDir) -> None:
    """Finish a study that was interrupted; one that is complete is shown again."""
    from study.launch import resume as go_on

    go_on(study_dir)


@app.command()
def status(
    study_dir: StudyDir,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how far a study is: trials by status and method, the front so far."""
    from study.status import show_status

    show_status(study_dir, as_json=as_json)


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
        Path, typer.Option(metavar="FILE", help="A torch checkpoint: a state dict, or a trial's own.")
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
    data_root: DataRoot = None,
    normalize: Annotated[
        Normalise, typer.Option(help="Before a bare network: pixels in [0, 1], or standardised by the training split.")
    ] = Normalise.none,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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
        normalisation=normalize.value,
    )
    evaluate_checkpoint(request, as_json=as_json)


@app.command()
def ui(
    study_dir: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY_DIR]", help="Open at this study's run; else the working folder's store."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1; a free one is picked when not given.")] = None,
) -> None:
    """Show the runs in MLflow's UI on 127.0.0.1 until Ctrl-C."""
    from study.tracking.ui import serve

    serve(study_dir, port=port)


@app.command()
def pareto(
    study_dirs: Annotated[list[Path], typer.Argument(metavar="STUDY_DIR", help="One or several studies' folders.")],
    split: Annotated[
        Split, typer.Option(help="Split whose accuracies are drawn; selection is always on val.")
    ] = Split.val,
    objectives: Annotated[
        str, typer.Option(metavar="A,B[,C]", help="Objectives that span the front.")
    ] = "val_clean_accuracy,val_robust_accuracy",
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Draw studies on one front though they measured different things.")
    ] = False,
    formats: Annotated[
        str, typer.Option("--format", metavar="LIST", help="Of png, pdf, svg, html.")
    ] = "png,pdf,svg,html",
    out: Annotated[Path | None, typer.Option(help="Where the figures go; else figures/ in the first study.")] = None,
) -> None:
    """Draw the Pareto front of clean against robust accuracy, coloured by measured Lipschitzness."""
    from study.figures import draw

    draw(
        study_dirs,
        split=split.value,
        objectives=objectives.split(","),
        allow_mixed=allow_mixed,
        formats=formats.split(","),
        out=out,
    )


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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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


@app.command(name="list")
def list_(kind: Annotated[Catalogue, typer.Argument(metavar="WHAT", help=", ".join(Catalogue))]) -> None:
    """List methods, datasets, models, spaces, attacks or presets, with ranges and units."""
    from study.catalogue import show

    show(kind.value)


def main() -> None:
    """Run the command line: exit code 0 on success, 2 on bad input (one line each on stderr), 1 on failure."""
    sys.path.append(str(Path.cwd()))  # a user's own package.module:object lies in the working folder
    try:
        app()
    except UsageError as error:
        for problem in error.problems:
            print(f"robust-study: {problem}", file=sys.stderr)  # noqa: T201 - the command line's own voice
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
