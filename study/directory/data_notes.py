"""What was noticed about a study's data set: said when it is loaded, and kept in the study's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainables.checkpoints.files import write_text

if TYPE_CHECKING:
    from trainables.data.base import ImageData

DATA_FILE = "data.txt"


def data_notes(data: ImageData, /) -> list[str]:
    """Return a line to print on each thing noticed about a data set, empty for none."""
    return [f"data set {data.name}: {note}" for note in data.notes]


def write_data_notes(study_dir: Path, data: ImageData, /) -> None:
    """Write what was noticed about a study's data set to its folder, one line each; also that no image is repeated."""
    is_apart = bool(data.repeated) and not any(data.repeated.values())
    lines = ["no validation or test image is identical to one of another split"] if is_apart else []
    write_text(study_dir / DATA_FILE, "".join(f"{line}\n" for line in (*lines, *data.notes)))


def read_data_notes(study_dir: Path, /) -> list[str]:
    """Return the lines that `write_data_notes` wrote; none if the study has no such file, as older ones."""
    try:
        return (study_dir / DATA_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
