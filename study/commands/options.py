"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyDir = Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="A study's folder, e.g. studies/quickstart.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the data sets. [default: dataset.root, else ROBUST_STUDY_DATA, else a per-user cache]",
    ),
]
CAP = 10
"""Members of the front that commands spend compute on unless more are asked for."""
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SkipDamaged = Annotated[
    bool, typer.Option("--skip-damaged", help="Skip unreadable result files and list them on stderr.")
]

AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Import code that a file from outside the working folder names, in no installed package."
    ),
]
"""Read by `study.cli.Command`, before the command runs."""
