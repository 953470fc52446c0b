"""Commands that run studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study.commands.options import AsJson, DataRoot, StudyDir

app = typer.Typer()

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a config key, e.g. search.num_trials=4."),
]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster to run on: auto or HOST:PORT; else Ray starts on this machine.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Run in the background; the study outlives this terminal.")]


@app.command()
def launch(
    config: Annotated[str, typer.Argument(metavar="CONFIG|PRESET", help="A study's YAML file, or a preset's name.")],
    assignments: Assignments = None,
    address: Address = None,
    out: Annotated[Path, typer.Option(help="Where the study's folder is made.")] = Path("studies"),
    data_root: DataRoot = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, estimate time and disk, start nothing.")
    ] = False,
    detach: Detach = False,
) -> None:
    """Run a new study: search, train, measure, track; then draw its Pareto front."""
    from study.lifecycle.launch import dry_run as estimate
    from study.lifecycle.launch import launch as start

    if dry_run:
        estimate(config, assignments=assignments or [], out=out, data_root=data_root, address=address)
    else:
        start(config, assignments=assignments or [], out=out, data_root=data_root, address=address, detached=detach)


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="table1, table2, table3 or table4.")],
    scale: Annotated[
        str, typer.Option(metavar="SCALE", help="smoke (minutes), laptop (hours) or paper (a cluster).")
    ] = "smoke",
    assignments: Assignments = None,
    address: Address = None,
    out: Annotated[Path, typer.Option(help="Where the table's folder is made.")] = Path("studies"),
    data_root: DataRoot = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the studies, estimate time and disk, start nothing.")
    ] = False,
) -> None:
    """Run a table of the paper as studies, and print it; run again, it goes on where it stands."""
    from study.reproduce.command import reproduce as make
    from study.reproduce.request import TableRequest

    make(
        TableRequest(
            table=table,
            scale=scale,
            out=out,
            data_root=data_root,
            address=address,
            assignments=assignments or [],
        ),
        dry_run=dry_run,
    )


@app.command()
def resume(
    study_dir: StudyDir,
    add_trials: Annotated[int | None, typer.Option(min=1, metavar="N", help="Run so many trials more.")] = None,
    assignments: Assignments = None,
    address: Address = None,
    detach: Detach = False,
) -> None:
    """Finish a study that was interrupted, or add trials to it; one that is complete is shown again."""
    from study.lifecycle.launch import resume as go_on

    go_on(study_dir, add_trials=add_trials or 0, assignments=assignments or [], address=address, detached=detach)


@app.command()
def stop(
    study_dir: StudyDir,
    now: Annotated[bool, typer.Option("--now", help="Do not let running trials save first.")] = False,
) -> None:
    """End a study's driver in order, as the first Ctrl-C would; `resume` goes on."""
    from study.lifecycle.background import stop as end

    end(study_dir, now=now)


@app.command()
def status(
    study_dir: StudyDir,
    as_json: AsJson = False,
) -> None:
    """Say how far a study is: trials by status and method, the front so far."""
    from study.reports.status import show_status

    show_status(study_dir, as_json=as_json)


@app.command()
def doctor(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[CONFIG|PRESET|STUDY_DIR]", help="What a study would use; else the defaults."),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to look at: auto or HOST:PORT.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a config key.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the study's folder would be made.")] = Path("studies"),
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Look at every machine a study would use: versions, storage, data, memory, GPUs, tracking, clocks, ports."""
    from study.cluster.doctor import examined, look

    start = examined(source, assignments=assignments or [], out=out, data_root=data_root, address=address)
    look(start, as_json=as_json)
