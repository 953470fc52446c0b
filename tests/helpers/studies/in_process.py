"""Run `robust-study` in the tests' own process; a new process would take seconds to import its modules."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from study.cli import main


def robust_study(folder: Path, /, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `robust-study` with arguments in a folder and return its exit code, stdout and stderr."""
    line = ["robust-study", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", line)
        patch.setattr(sys, "path", [*sys.path])  # `main` adds the folder
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())
