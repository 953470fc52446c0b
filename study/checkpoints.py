"""Where a study's checkpoints lie."""

from __future__ import annotations

from pathlib import Path

from study.config import StudyConfig
from trainables.checkpoints.files import is_url


def checkpoint_root(config: StudyConfig, study_dir: Path, /) -> Path | str:
    """Return what holds one folder of checkpoints a trial: a path, or an object store's URL."""
    root = config.storage.checkpoints or study_dir / "checkpoints"
    return root if is_url(root) else Path(root).expanduser().resolve()
