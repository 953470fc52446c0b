"""Commands that show, export and upload results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from study.commands.options import AllowCode, SkipDamaged, StudyDir

app = typer.Typer()

Studies = Annotated[
    list[Path],
    typer.Argument(metavar="STUDY_DIR", help="Folders of one or more studies, or exported .parquet files."),
]


@app.command()
def ui(
    study_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY_DIR",
            help="Study that is opened. [default: the newest in the store of the working folder]",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Port on 127.0.0.1. [default: 5000, or the next free one]")
    ] = None,
) -> None:
    """Open the runs in MLflow's UI on 127.0.0.1.

    The addresses of the study's table, charts and run are printed, and opened in a browser if there is a screen. Ctrl-C
    stops the server.
    """
    from study.tracking.ui import serve

    serve(study_dir, port=port)


@app.command()
def sync(study_dir: StudyDir, allow_code: AllowCode = False) -> None:
    """Upload missing runs to MLflow and verify them.

    Runs are uploaded from the study's folder, then read back and compared with its result files.
    """
    from study.lifecycle.sync import sync as upload

    upload(study_dir)


@app.command()
def export(
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.parquet|.csv",
            help="File for the rows; its extension, .parquet or .csv, determines the format.",
        ),
    ],
    study_dir: Annotated[
        Path | None, typer.Argument(metavar="STUDY_DIR", help="A study's folder; leave it out with --mlflow.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Rebuild the rows from this MLflow store instead.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(metavar="NAME", help="Experiment in that store.")] = None,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|ID", help="Only this study. [default: all; of those sharing a name the most recent]"
        ),
    ] = None,
) -> None:
    """Export result rows to one Parquet or CSV file.

    The rows come from a study's folder or from MLflow alone; per-example outcomes are written to a second file beside
    it.
    """
    from study.tracking.export import export as write

    write(study_dir, uri=mlflow, experiment=experiment, out=out, study=study)


@app.command()
def pareto(
    study_dirs: Studies,
    split: Annotated[
        Literal["val", "test"], typer.Option(help="Split whose accuracies are drawn; members are always chosen on val.")
    ] = "val",
    objectives: Annotated[
        str, typer.Option(metavar="A,B[,C]", help="Objectives of the front, by column name.")
    ] = "val_clean_accuracy,val_robust_accuracy",
    prefer: Annotated[
        str | None, typer.Option(metavar="X,Y[,Z]", help="Also name the member nearest to these objective values.")
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Published results, as RobustBench's JSON, drawn behind the front."),
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Combine studies whose data set, threat model or attack differ.")
    ] = False,
    skip_damaged: SkipDamaged = False,
    formats: Annotated[
        str, typer.Option("--format", metavar="LIST", help="File formats, from png, pdf, svg, html.")
    ] = "png,pdf,svg,html",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the figures. [default: figures/ in the first study's folder]"),
    ] = None,
) -> None:
    """Draw the Pareto front and print it as a table.

    Clean against robust accuracy, coloured by measured local Lipschitzness; the paper's table is written beside the
    figures.
    """
    from study.reports.pareto import draw

    draw(
        study_dirs,
        split=split,
        objectives=objectives.split(","),
        prefer=prefer,
        anchors=anchors,
        allow_mixed=allow_mixed,
        formats=formats.split(","),
        out=out,
        skip_damaged=skip_damaged,
    )


@app.command()
def figures(
    study_dir: Annotated[
        Path, typer.Argument(metavar="STUDY_DIR", help="A study's folder, or an exported .parquet file.")
    ],
    formats: Annotated[
        str, typer.Option("--format", metavar="LIST", help="File formats, from pdf, png, svg.")
    ] = "pdf,png,svg",
    width: Annotated[
        Literal["column", "page"],
        typer.Option(help="Width: a column of a two-column paper (3.3 in) or the page (6.9 in)."),
    ] = "column",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the figures. [default: figures/ in the study's folder]"),
    ] = None,
    skip_damaged: SkipDamaged = False,
) -> None:
    """Draw every figure of a paper, each with its data.

    Each figure is written as PDF, PNG and SVG, with the data that it shows as CSV.
    """
    from study.reports.figures import draw_all

    draw_all(study_dir, formats=formats.split(","), width=width, out=out, skip_damaged=skip_damaged)


@app.command()
def report(
    study_dirs: Studies,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page. [default: report.html in the study's folder; for several studies in the working folder]",
        ),
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Combine studies whose data set, threat model or attack differ.")
    ] = False,
    skip_damaged: SkipDamaged = False,
) -> None:
    """Write a study's report as one offline HTML page.

    Several studies share one page if they measured the same things.
    """
    from study.reports.report import write_report

    write_report(study_dirs, out=out, allow_mixed=allow_mixed, skip_damaged=skip_damaged)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A study's folder, or an exported .parquet file.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="The study to compare it with, likewise.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page. [default: comparison.html in the working folder]")
    ] = None,
    skip_damaged: SkipDamaged = False,
) -> None:
    """Compare two studies on one offline HTML page.

    They may differ in data set, model or year; the page shows in what they differ and, where they measured the same
    things, by how much their results do.
    """
    from study.reports.compare import compare as write

    write(first, second, out=out, skip_damaged=skip_damaged)


@app.command(name="list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="One of methods, datasets, models, spaces, attacks, samplers, schedulers, presets and templates.",
        ),
    ],
) -> None:
    """List methods, data sets, models and other choices.

    Each is shown with its ranges, units or limits; templates are files that start a cluster.
    """
    from study.commands.catalogue import show

    show(kind)
