"""Where the weights of a study's trial are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from study.config.schema import StudyConfig
from study.console import quoted
from study.directory.checkpoint_folder import checkpoint_root, foreign
from study.errors import UsageError
from trainables.checkpoints.files import exists, join, parent

Weights = Literal["last", "best"]


def weights_of(study_dir: Path, config: StudyConfig, row: Mapping[str, Any], checkpoint: Weights, /) -> str:
    """Return the file of a trial's weights: in the study's own folder of checkpoints, else where its row says.

    Raises:
        UsageError: The only such file is in a folder that belongs to another study.
    """
    from trainables.training.loop import BEST, LAST

    name = {"last": LAST, "best": BEST}[checkpoint]
    own = str(join(checkpoint_root(config, study_dir), row["trial_id"]))
    noted = row["checkpoint_path"] or own
    existing = [place for place in dict.fromkeys([own, noted]) if exists(join(place, name))]
    problems = {place: foreign(parent(place), study_dir) for place in existing}
    usable = [place for place, problem in problems.items() if problem is None]
    if existing and not usable:
        raise UsageError(
            f"trial {row['trial_id']}: {problems[existing[0]]}, and train the trial again with "
            f"`robust-study train {quoted(study_dir)} --trial {row['trial_id']} --save FILE`"
        )
    return str(join((usable or [noted])[0], name))
