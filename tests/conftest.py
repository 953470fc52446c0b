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

# Before any library starts its threads: those of processes that share the cores wait for each other, spinning.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

# Files of more than about 4 s of one core without their long tests, the longest first; those that run studies are
# marked e2e or cluster, and those of words and structure belong to every check.
SLOW = (
    "test_training.py test_models.py test_separation_command.py test_accuracy_model.py test_restored_trials.py "
    "test_margin_attacks.py test_tracker.py test_report_several.py test_report_page.py test_evaluate_checkpoint.py "
    "test_flags.py test_checkpoint_folder.py test_slurm_script.py test_proof_of_concept.py test_training_options.py "
    "test_recipe.py test_first_screen.py test_plots.py test_certified_measure.py test_evaluate_trial.py "
    "test_adversarial_distances.py test_console.py test_post_run.py test_trust.py test_names_and_theory.py "
    "test_shared_view.py test_moved_storage.py test_lipschitz_cnn.py test_association.py test_tracking_repair.py "
    "test_attacks.py test_reading_commands.py test_searcher.py test_own_code.py test_weight_perturbation.py "
    "test_export.py test_importance.py test_object_store.py test_answers.py test_field_figures.py test_data_notes.py "
    "test_foreign_checkpoints.py test_pseudo_labels.py test_partial_epochs.py test_moasha.py"
).split()

# Slow shared cores make single examples late without anything being wrong.
hypothesis.settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("project")


def pytest_configure() -> None:
    if "ROBUST_STUDY_DATA" not in os.environ and SHARED_DATA.is_dir():
        os.environ["ROBUST_STUDY_DATA"] = str(SHARED_DATA)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and run the longest files first: run last, they would keep one process busy alone."""
    for item in items:
        if item.path.name in SLOW:
            item.add_marker("slow")
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    """Return the place of an item: files that run studies, slow ones, the rest."""
    if item.get_closest_marker("e2e") or item.get_closest_marker("cluster"):
        return -1
    return SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW)


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
