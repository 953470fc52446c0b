"""What every test session needs: where the real images are, which tests can run here, quiet libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

# Slow shared cores make single examples late without anything being wrong.
hypothesis.settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("project")


def pytest_configure() -> None:
    if "ROBUST_STUDY_DATA" not in os.environ and SHARED_DATA.is_dir():
        os.environ["ROBUST_STUDY_DATA"] = str(SHARED_DATA)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the studies: they take minutes each, so begun last they would keep one process busy alone."""
    items.sort(key=lambda item: not any(item.iter_markers("e2e")) and not any(item.iter_markers("cluster")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real image files; skips where none is given."""
    root = os.environ.get("ROBUST_STUDY_DATA")
    if not root:
        pytest.skip("ROBUST_STUDY_DATA is unset: no real images on this machine")
    return Path(root)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str, str]]:
    """Run `robust-study` with these words in an empty folder; return its exit code, stdout and stderr."""
    from study.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["robust-study", *map(str, words)])
        try:
            code: object = main() or 0
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
