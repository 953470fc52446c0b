"""Reads a study's result files for the commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.data.schema import ResultsError
from study.directory.layout import CONFIG_FILE, open_config
from study.errors import UsageError, usage_errors


def evaluation_rows(study_dir: Path, /) -> list[Mapping[str, Any]]:
    """Return the evaluation rows of a study and of its new seeds; each is one use of the test split.

    Raises:
        UsageError: A file is damaged or of another version.
    """
    from analysis.heldout.members import read_uses

    with usage_errors(ResultsError):
        return read_uses(study_dir)


def count_rows(study_dir: Path, /) -> int:
    """Return how many trials of a study have a row."""
    return int(read_rows([study_dir]).num_rows)


def read_rows(sources: Sequence[Path], /, *, skip_damaged: bool | None = None) -> Any:
    """Return the result rows of one or several studies as one table.

    Args:
        sources: Studies' folders, folders with `results/` alone, or Parquet files of `robust-study export`.
        skip_damaged: Skip damaged files with a warning for each; None for a command without this option.

    Raises:
        UsageError: A source is none of these, its results have another schema, or files are damaged.
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
        skippable = skip_damaged is False and "Parquet file" in str(error)
        hint = "; --skip-damaged reads the rest" if skippable else ""
        raise UsageError(f"{error}{hint}") from error


def require_same_images(study_rows: Iterable[Mapping[str, Any]], split_hash: str, /, *, name: str, remedy: str) -> None:
    """Check that trials were run on the data set that is loaded now.

    Args:
        study_rows: Their result rows, or the columns `trial_id` and `split_hash` of them.
        split_hash: Digest of the data set that is loaded.
        name: Its name, for messages.
        remedy: How the user names another folder of the data set.

    Raises:
        UsageError: A row has another digest.
    """
    for row in study_rows:
        if row["split_hash"] not in (None, split_hash):
            raise UsageError(
                f"data set {name} holds other images than when trial {row['trial_id']} was run (split hash "
                f"{split_hash} here, {row['split_hash']} then): name the folder of the same files by {remedy}"
            )


def reference_of(sources: Sequence[Path], /) -> dict[str, float]:
    """Return the hypervolume's reference values that the sources' configs set, by objective; exports set none.

    Raises:
        UsageError: Two studies set different values for one objective.
    """
    fixed: dict[str, float] = {}
    for source in sources:
        if not (source / CONFIG_FILE).is_file():
            continue
        for name, value in open_config(source).front.reference.items():
            if fixed.setdefault(name, value) != value:
                raise UsageError(
                    f"`front.reference.{name}` is {value:g} in {source} and {fixed[name]:g} in another study; "
                    "hypervolumes can only be compared at one reference point: draw the studies separately"
                )
    return fixed


def strong_results(study_dir: Path, table: Any, /) -> dict[str, Any]:
    """Return the `analysis.fronts.strong_attacks.StrongResult` of each attacked member by trial id.

    Args:
        study_dir: The study's folder, or an exported file, which has none.
        table: Its result rows.

    Raises:
        UsageError: Files are damaged.
    """
    from analysis.data.schema import ResultsError
    from analysis.fronts.strong_attacks import read_strong

    with usage_errors(ResultsError):
        return read_strong(study_dir, table)


def heldout_results(study_dir: Path, /, *, table: Any = None) -> Any:
    """Return a study's results on test, a `members.HeldoutResults`; None where nothing was measured.

    Args:
        study_dir: The study's folder.
        table: Its result rows; read from the folder when None.

    Raises:
        UsageError: The study is an exported file, or files are damaged.
    """
    from analysis.data.schema import ResultsError
    from analysis.heldout.members import read_on_test

    if study_dir.is_file():
        raise UsageError(f"{study_dir} has no results on test: name the study's folder")
    with usage_errors(ResultsError):
        return read_on_test(study_dir, read_rows([study_dir]) if table is None else table)
