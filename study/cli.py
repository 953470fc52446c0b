"""The command line: every command under one name, and how errors are told."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import typer

from study.commands import measuring, reading, running
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
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
"""What the system says of a path that a user gave and that cannot be written or read."""

for _group in (running, measuring, reading):
    app.add_typer(_group.app)


def main() -> None:
    """Run the command line: exit code 0 on success, 2 on bad input (one line each on stderr), 1 on failure."""
    sys.path.append(str(Path.cwd()))  # a user's own package.module:object lies in the working folder
    try:
        app()
    except UsageError as error:
        for problem in error.problems:
            print(f"robust-study: {problem}", file=sys.stderr)  # noqa: T201 - the command line's own voice
        sys.exit(2)
    except OSError as error:
        if error.errno not in _UNUSABLE or error.filename is None:
            raise
        print(f"robust-study: cannot use {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
