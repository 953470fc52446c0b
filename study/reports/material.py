"""What the figures and the report show, collected from studies' folders or exported files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from study.console import quoted
from study.directory.layout import CONFIG_FILE, open_config
from study.directory.rows import reference_of
from study.errors import usage_errors
from study.reports.dataset_separation import distances_of
from study.reports.posterior import belief_of
from study.reports.radius_curves import front_curves, front_distances
from study.reports.sources import StudySources, home_of

if TYPE_CHECKING:
    from analysis.material import StudyMaterial


def collect(sources: StudySources, /, *, allow_mixed: bool = False) -> StudyMaterial:
    """Collect what the figures and the report of studies show.

    Args:
        sources: The studies.
        allow_mixed: Put rows of different measurements on one front.

    Raises:
        UsageError: Rows of different measurements, studies with different reference values, or damaged files.
    """
    from analysis.fronts.front import mixed_columns, require_like_for_like, with_mixed_allowed
    from analysis.material import StudyMaterial
    from study.search.importance import importance_near_front, importance_of, importance_within, objectives_shown

    table = with_mixed_allowed(sources.table) if allow_mixed else sources.table
    folders = list(sources.sources.values())
    with usage_errors(ValueError):
        require_like_for_like(table)
        devices, unit = _hours(folders)
        objectives = objectives_shown(folders)
        importance, sample = importance_of(table, objectives)
        return StudyMaterial(
            table=table,
            config=sources.config(),
            data_notes=sources.data_notes(),
            belief=None if mixed_columns(table) else belief_of(sources.sources, table),
            importance=importance,
            importance_sample=sample,
            importance_within=importance_within(table, objectives),
            near_front=importance_near_front(table),
            reference=reference_of(folders),
            separation=distances_of(table, sources.home),
            curves=front_curves(table, sources.home),
            distances=front_distances(table, sources.home),
            devices=devices,
            unit=unit,
            strong=sources.strong(),
            classifier=sources.classifier(),
            on_test=sources.on_test(),
            homes={label: quoted(source) for label, source in sources.sources.items() if source.is_dir()},
        )


def _hours(folders: list[Path]) -> tuple[float, str]:
    """Return the devices that a trial uses and the unit of its hours; worker-hours if the studies differ."""
    devices = {_devices(home_of(folder)) for folder in folders}
    return devices.pop() if len(devices) == 1 else (1.0, "worker-hours")


def _devices(home: Path) -> tuple[float, str]:
    if not (home / CONFIG_FILE).is_file():
        return 1.0, "worker-hours"
    gpus = open_config(home).resources.gpus
    # what `auto` came to is not recorded
    return (gpus, "GPU-hours") if gpus != "auto" and gpus > 0 else (1.0, "worker-hours")
