"""Commands that run studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study.commands.options import AllowCode, AsJson, DataRoot, StudyDir
from study.errors import UsageError

app = typer.Typer()

Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a config key, e.g. search.num_trials=4; repeatable, the last of a key holds.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Ray cluster to run on. [default: cluster.address, else a Ray started on this machine]",
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Run in the background, independent of this terminal.")]


@app.command()
def launch(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG|PRESET", help="A study's YAML file, or the name of a preset.")
    ],
    assignments: Assignments = None,
    address: Address = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder in which the study's folder is created.")] = Path(
        "studies"
    ),
    data_root: DataRoot = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and estimate time and disk; start nothing.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --dry-run: print the config first, every default included.")
    ] = False,
    detach: Detach = False,
    allow_code: AllowCode = False,
) -> None:
    """Run a new study and draw its Pareto front.

    Everything is checked before Ray starts. Trials are searched, trained, measured and tracked in MLflow, with links to
    follow them by; then the front is drawn, and what was found is printed in words.
    """
    from study.lifecycle.launch import launch as start

    start(
        config,
        assignments=assignments or [],
        out=out,
        data_root=data_root,
        address=address,
        dry_run=dry_run,
        verbose=verbose,
        detached=detach,
    )


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="table1, table2, table3, table4, or proof-of-concept.")],
    scale: Annotated[
        str, typer.Option(metavar="SCALE", help="Effort: smoke (minutes), laptop (hours) or paper (a cluster).")
    ] = "smoke",
    assignments: Assignments = None,
    address: Address = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder in which the table's folder is created.")] = Path(
        "studies"
    ),
    data_root: DataRoot = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the studies and estimate time and disk; start nothing.")
    ] = False,
) -> None:
    """Run one of the paper's tables as studies.

    table1 measures the separation of data sets; the others train every setting once and measure it on test. The table
    is printed and written as Markdown, LaTeX, CSV and Parquet. Run the same command again to resume it.

    proof-of-concept TRAINS ON THE TEST IMAGES TOO, the only command that does: it shows that a network which is
    accurate and robust on train and test alike exists, nothing else. No other command reads its results.
    """
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
    add_trials: Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of trials to add.")] = None,
    assignments: Assignments = None,
    address: Address = None,
    detach: Detach = False,
    allow_code: AllowCode = False,
    move_storage: Annotated[
        bool, typer.Option("--move-storage", help="Copy the search's trials to the storage.optuna given with --set.")
    ] = False,
) -> None:
    """Resume an interrupted study, or add trials to it.

    Finished trials are kept; interrupted ones continue from their last checkpoint. A complete study's results, and what
    was found, are printed again.
    """
    from study.lifecycle.launch import resume as go_on

    go_on(
        study_dir,
        add_trials=add_trials or 0,
        assignments=assignments or [],
        address=address,
        detached=detach,
        move_storage=move_storage,
    )


@app.command()
def stop(
    study_dir: StudyDir,
    now: Annotated[
        bool, typer.Option("--now", help="Stop at once: what running trials did since their last checkpoint is lost.")
    ] = False,
) -> None:
    """Stop a running study gracefully.

    As with one Ctrl-C in its terminal, running trials save a checkpoint, and figures and tracking are brought up to
    date. `robust-study resume` continues the study.
    """
    from study.lifecycle.background import stop as end

    end(study_dir, now=now)


@app.command()
def status(
    study_dir: StudyDir,
    as_json: AsJson = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Draw it again and again until the study ends or Ctrl-C; nothing is written."),
    ] = False,
) -> None:
    """Show a study's progress.

    Trials by status and method, failures by cause, the front so far, and which process runs the study. With --watch,
    the pace, the best robust accuracy, the hypervolume and the front in characters, until the study ends.
    """
    if watch:
        if as_json:
            raise UsageError("--watch draws for a reader: leave out --json, or ask again without --watch")
        from study.reports.watch import watch as follow

        follow(study_dir)
        return
    from study.reports.status import show_status

    show_status(study_dir, as_json=as_json)


@app.command()
def doctor(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG|PRESET|STUDY_DIR",
            help="The study whose requirements are checked. [default: those of the default config]",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="Ray cluster to check. [default: cluster.address, else this machine, without Ray]",
        ),
    ] = None,
    assignments: Assignments = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder in which the study's folder would be created.")
    ] = Path("studies"),
    data_root: DataRoot = None,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Check every machine that a study would use.

    Versions, storage, data, memory, GPUs, tracking, clocks and ports: one line per check, `ok` or `PROBLEM` with what
    to do. The exit code is 1 if there is a problem.
    """
    from study.cluster.doctor import planned_start, report_findings

    start = planned_start(source, assignments=assignments or [], out=out, data_root=data_root, address=address)
    report_findings(start, as_json=as_json)
