"""A study that is about to start, which the checks before it look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cluster.node_survey import study_packages, survey
from study.cluster.resources import Node
from study.config.loading import load_config
from study.config.paths import resolved
from study.config.schema import StudyConfig

if TYPE_CHECKING:
    from trainables.data.base import ImageData


@dataclass
class Start:
    """A study that is about to start, and what the checks find out about it.

    Attributes:
        config: Its config, resolved.
        study_dir: Its folder, or the one it would have.
        is_new: Whether it has not been launched yet.
        given: Dotted keys set on the command line.
        data: The data set without its test split; None until `check_data` has loaded it.
        weights: Bytes of the network's weights; 0 until `check_model` has built it.
    """

    config: StudyConfig
    study_dir: Path
    is_new: bool
    given: Sequence[str] = ()
    data: ImageData | None = None
    weights: int = 0

    def num_bytes(self) -> int:
        """Return the memory that the loaded data set takes, in bytes."""
        data = self.data
        return 0 if data is None else sum(split.images.nbytes + split.labels.nbytes for split in (data.train, data.val))

    def nodes(self) -> tuple[Node, ...]:
        """Return the cluster's nodes that answered; none without a cluster.

        Raises:
            UsageError: No cluster answers at `cluster.address`.
        """
        if self.config.cluster.address is None:
            return ()
        answers = survey(self.config.cluster.address, study_packages(self.config))
        return tuple(node for node in answers.nodes if node.id in answers.facts)


def new_start(
    source: str | Mapping[str, Any],
    /,
    *,
    assignments: Sequence[str],
    out: Path,
    data_root: Path | None,
    address: str | None,
) -> Start:
    """Return the start of a new study, its paths, addresses and defaults resolved.

    Args:
        source: YAML file, preset, or the config itself as nested values.
        assignments: `key=value` replacements.
        out: Folder in which the study's folder would be created.
        data_root: Replaces `dataset.root`.
        address: Replaces `cluster.address`.

    Raises:
        UsageError: No such config, or an invalid one.
    """
    config = resolved(load_config(source, assignments=assignments, data_root=data_root, address=address))
    return Start(config, out / config.name, is_new=True)
