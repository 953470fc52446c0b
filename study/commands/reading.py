"""Commands that show what is there."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from study.commands.options import StudyDir

app = typer.Typer()


class Split(StrEnum):
    """Splits a front may be shown on."""

    val = "val"
    test = "test"


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
def sync(study_dir: StudyDir) -> None:
    """Upload what tracking still lacks of a study, and read it back."""
    from study.lifecycle.sync import sync as upload

    upload(study_dir)


@app.command()
def export(
    out: Annotated[Path, typer.Option(metavar="FILE.parquet|.csv", help="Where the rows go.")],
    study_dir: Annotated[
        Path | None, typer.Argument(metavar="[STUDY_DIR]", help="A study's folder; none with --mlflow.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Rebuild the rows from this tracking store instead.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(metavar="NAME", help="The experiment there.")] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME|ID", help="One study there; else all, of each name the newest.")
    ] = None,
) -> None:
    """Write result rows to one file, and per-example outcomes beside it, from a folder or from MLflow alone."""
    from study.tracking.export import export as write

    write(study_dir, uri=mlflow, experiment=experiment, out=out, study=study)


class Width(StrEnum):
    """What a figure fills."""

    column = "column"
    page = "page"


@app.command()
def pareto(
    study_dirs: Annotated[
        list[Path],
        typer.Argument(metavar="STUDY_DIR", help="One or several studies' folders or exported .parquet files."),
    ],
    split: Annotated[
        Split, typer.Option(help="Split whose accuracies are drawn; selection is always on val.")
    ] = Split.val,
    objectives: Annotated[
        str, typer.Option(metavar="A,B[,C]", help="Objectives that span the front.")
    ] = "val_clean_accuracy,val_robust_accuracy",
    prefer: Annotated[
        str | None, typer.Option(metavar="X,Y[,Z]", help="Name the member nearest to these values of the objectives.")
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Draw studies on one front though they measured different things.")
    ] = False,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Read what is whole; damaged files are named on stderr.")
    ] = False,
    formats: Annotated[
        str, typer.Option("--format", metavar="LIST", help="Of png, pdf, svg, html.")
    ] = "png,pdf,svg,html",
    out: Annotated[Path | None, typer.Option(help="Where the figures go; else figures/ in the first study.")] = None,
) -> None:
    """Draw the Pareto front of clean against robust accuracy, coloured by measured Lipschitzness."""
    from study.reports.pareto import draw

    draw(
        study_dirs,
        split=split.value,
        objectives=objectives.split(","),
        prefer=prefer,
        allow_mixed=allow_mixed,
        formats=formats.split(","),
        out=out,
        skip_damaged=skip_damaged,
    )


@app.command()
def figures(
    study_dir: Annotated[
        Path, typer.Argument(metavar="STUDY_DIR", help="The study's folder, or an exported .parquet file.")
    ],
    formats: Annotated[str, typer.Option("--format", metavar="LIST", help="Of pdf, png, svg.")] = "pdf,png,svg",
    width: Annotated[Width, typer.Option(help="A column of a two-column paper (3.4 in), or its page (7 in).")] = (
        Width.column
    ),
    out: Annotated[Path | None, typer.Option(help="Where they go; else figures/ in the study's folder.")] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Read what is whole; damaged files are named on stderr.")
    ] = False,
) -> None:
    """Draw every figure of a study for a paper, each with its data beside it as CSV."""
    from study.reports.figures import draw_all

    draw_all(study_dir, formats=formats.split(","), width=width.value, out=out, skip_damaged=skip_damaged)


@app.command()
def report(
    study_dirs: Annotated[
        list[Path],
        typer.Argument(metavar="STUDY_DIR", help="One or several studies' folders or exported .parquet files."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; else report.html in the folder, in the working one for several."),
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Put studies on one front though they measured different things.")
    ] = False,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Read what is whole; damaged files are named on stderr.")
    ] = False,
) -> None:
    """Write one offline HTML page about a study, or about several of like measurement."""
    from study.reports.report import write_report

    write_report(study_dirs, out=out, allow_mixed=allow_mixed, skip_damaged=skip_damaged)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="A study's folder, or an exported .parquet file.")],
    second: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="The one to set beside it.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; else comparison.html in the working folder.")
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Read what is whole; damaged files are named on stderr.")
    ] = False,
) -> None:
    """Set two studies beside each other on one offline HTML page: data sets, models, years."""
    from study.reports.compare import compare as write

    write(first, second, out=out, skip_damaged=skip_damaged)


@app.command(name="list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="Of methods, datasets, models, spaces, attacks, samplers, presets, templates."
        ),
    ],
) -> None:
    """List methods, datasets, models, spaces, attacks, samplers, presets or cluster templates."""
    from study.commands.catalogue import show

    show(kind)
