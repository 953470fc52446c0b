"""What a study's result files hold, read for its commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.data.schema import ResultsError
from study.directory.layout import CONFIG_FILE, open_config
from study.errors import UsageError


def evaluation_rows(study_dir: Path, /) -> list[Mapping[str, Any]]:
    """Return the evaluation rows of a study and of its new seeds: each one use of test data.

    Raises:
        UsageError: Damaged files, or of another version.
    """
    from analysis.heldout.members import read_uses

    try:
        return read_uses(study_dir)
    except ResultsError as error:
        raise UsageError(str(error)) from error


def count_rows(study_dir: Path, /) -> int:
    """Return how many trials of a study have their row."""
    return int(read_rows([study_dir]).num_rows)


def read_rows(sources: Sequence[Path], /, *, skip_damaged: bool | None = None) -> Any:
    """Return the result rows of one or several studies as one table.

    Args:
        sources: Studies' folders, folders with `results/` alone, or Parquet files of `robust-study export`.
        skip_damaged: Leave out damaged files, each named in a warning; None where the command has no such option.

    Raises:
        UsageError: A source that is none of these, results of another schema, or damaged files.
    """
    from analysis.data.combine import read_studies
    from analysis.data.results import SchemaError
    from analysis.data.schema import RESULT, ResultsError

    for source in sources:
        if not source.is_file() and not (source / RESULT.folder).is_dir():
            open_config(source)
    try:
        return read_studies(sources, skip_damaged=bool(skip_damaged))
    except SchemaError as error:
        raise UsageError(str(error)) from error
    except ResultsError as error:
        optional = skip_damaged is False and "Parquet file" in str(error)
        more = "; --skip-damaged reads the rest" if optional else ""
        raise UsageError(f"{error}{more}") from error


def reference_of(sources: Sequence[Path], /) -> dict[str, float]:
    """Return the hypervolume's reference values that the sources' configs fix, by objective; exports fix none.

    Raises:
        UsageError: Two studies fix different values for one objective.
    """
    fixed: dict[str, float] = {}
    for source in sources:
        if not (source / CONFIG_FILE).is_file():
            continue
        for name, value in open_config(source).front.reference.items():
            if fixed.setdefault(name, value) != value:
                raise UsageError(
                    f"`front.reference.{name}` is {value:g} in {source} and {fixed[name]:g} in another study; "
                    "hypervolumes compare at one reference point: draw them apart"
                )
    return fixed


def known_on_test(study_dir: Path, /, *, table: Any = None) -> Any:
    """Return what a study's folder holds on test, a `members.HeldoutResults`; None where nothing was measured.

    Args:
        study_dir: The study's folder.
        table: Its result rows; read when None.

    Raises:
        UsageError: An exported file, or damaged ones.
    """
    from analysis.data.schema import ResultsError
    from analysis.heldout.members import read_on_test

    if study_dir.is_file():
        raise UsageError(f"{study_dir} holds no test values: name the study's folder")
    try:
        return read_on_test(study_dir, read_rows([study_dir]) if table is None else table)
    except ResultsError as error:
        raise UsageError(str(error)) from error
