"""The command line: every command under one name, grouped in its help, and how errors are shown."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from study.commands import measuring, reading, running
from study.config.trust import output_folder, rules
from study.console import notes, open_outputs, unwritten
from study.errors import UsageError
from trainables.registry import CodeRefusedError, OwnCodeError

PANELS = {
    "Run": ("launch", "resume", "stop", "status", "train", "reproduce", "doctor"),
    "Look": ("list", "ui", "pareto", "figures", "report", "compare", "export", "sync"),
    "Test": ("evaluate", "confirm", "separation"),
}
"""The groups of `--help`, each with its commands in the order in which they are shown."""


READS = {"status", "stop", "pareto", "figures", "report", "compare", "export", "ui"}
"""The commands that import nothing that a study names."""


class Command(TyperCommand):
    """Runs by the rules of trust; shows arguments without the braces and Python types that Typer adds."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command under the rules of `study.config.trust`."""
        with rules(reading=self.name in READS, allowed=ctx.params.get("allow_code", False)):
            return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line."""
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options with their help."""
        write, typed = formatter.write_dl, re.compile("^([A-Z].*) <.*>$")
        formatter.write_dl = lambda rows: write([(typed.sub(r"\1", name), text) for name, text in rows])
        super().format_options(ctx, formatter)


class Panels(TyperGroup):
    """Lists the commands under the headings of `PANELS`.

    Typer's own panels need its rich mode, which cuts what does not fit and makes `--help` slower.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each group: its heading, its commands and the first line of each one's docstring."""
        width = max(len(name) for names in PANELS.values() for name in names)
        for title, names in PANELS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), (self.commands[name].help or "").partition("\n")[0]) for name in names]
                )


app = typer.Typer(
    name="robust-study",
    cls=Panels,
    help="Find the Pareto front of clean against adversarial accuracy over training methods, dropout and "
    "regularisation strength, and test whether local Lipschitzness explains the trade-off.",
    epilog="Start with: robust-study launch quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
"""What the system says of a path that a user gave and that cannot be written or read."""

_FULL = {errno.ENOSPC, errno.EDQUOT}

for _group in (running, measuring, reading):
    for _command in _group.app.registered_commands:
        _command.cls = Command
    app.add_typer(_group.app)


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the working folder no longer exists: change to another one") from error


def _check_names() -> None:
    """Check that names of files are UTF-8: neither YAML, Parquet nor MLflow's database can hold others."""
    for name in (str(_working_folder()), *sys.argv):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            remedy = "rename it" if sys.getfilesystemencoding() == "utf-8" else "set PYTHONUTF8=1 in the environment"
            raise UsageError(f"names of files and folders must be UTF-8, got {name!r}: {remedy}") from error


def _find_own_code() -> None:
    """Let a user's own `package.module:object` be found in the working folder, but not in a study's output folder."""
    here = _working_folder()
    if output_folder(here) is None:
        sys.path.append(str(here))
    else:  # where `python -m` puts it
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here.resolve()]


def main() -> None:
    """Run the command line: exit code 0 on success, 2 on bad input (one line each on stderr), 1 on failure."""
    open_outputs()
    try:
        _run()
    except SystemExit:
        if (reason := unwritten()) is None:
            raise
        notes().print(f"robust-study: the output could not be written ({reason}); what is in files is complete")
        sys.exit(1)


def _run() -> None:
    try:
        _check_names()
        _find_own_code()
        app()
    except (CodeRefusedError, OwnCodeError) as error:
        notes().print(f"robust-study: {error}")
        sys.exit(2)
    except UsageError as error:
        for problem in error.problems:
            notes().print(f"robust-study: {problem}")
        sys.exit(2)
    except OSError as error:
        if error.errno in _FULL:
            place = f" ({error.filename})" if error.filename else ""
            notes().print(f"robust-study: the disk is full{place}: free some of it and run the command again")
            sys.exit(1)
        if error.errno not in _UNUSABLE or error.filename is None:
            raise
        notes().print(f"robust-study: cannot use {error.filename}: {error.strerror}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
