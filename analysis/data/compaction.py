"""Merge a study's many small files into one of each kind, safe to kill at any point.

The merged file appears complete or not at all; only then are the small ones deleted. A reader that finds both, after a
crash in between, keeps each trial's rows once (`analysis.data.results`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.data.columns import Schema
from analysis.data.files import COMPACTED, Table, checked_schema, read_file, sync_folder, trial_files
from analysis.data.schema import EPOCH, EXAMPLE, RESULT, ResultsError

KINDS = (EXAMPLE, EPOCH, RESULT)
"""Result rows last: a trial whose result row is merged has its other rows merged too."""


def compact(study_dir: str | Path, /, *, at_least: int = 2) -> dict[str, int]:
    """Merge a study's small files into one file of each kind, and delete the small ones.

    Rows are unchanged, each trial in a row group of its own, so that a reader of some trials skips the others. The
    rows of an earlier compacted file are kept.

    Args:
        study_dir: The study's folder; nothing may write to it meanwhile.
        at_least: Fewest small files of a kind that are merged.

    Returns:
        Number of small files merged, by kind; kinds with fewer than `at_least` are left out.

    Raises:
        ResultsError: A damaged file, or one of another schema; no file is then changed.
        OSError: The disk is full, or the folder is not writable; likewise.
    """
    merged = {}
    for schema in KINDS:
        folder = Path(study_dir) / schema.folder
        files = [path for path in trial_files(folder) if path.name != COMPACTED]
        if len(files) >= at_least:
            _merge(folder, files, schema)
            merged[schema.name] = len(files)
    return merged


def _merge(folder: Path, files: list[Path], schema: Schema) -> None:
    target, temporary = folder / COMPACTED, folder / f".{COMPACTED}.tmp"
    try:
        written = _write(temporary, [*([target] if target.exists() else []), *files], schema)
        if pq.read_metadata(temporary.absolute()).num_rows != written:
            raise ResultsError(f"{temporary} was read back with fewer rows than were written; check the disk")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    for path in files:
        path.unlink()
    sync_folder(folder)


def _write(path: Path, sources: list[Path], schema: Schema) -> int:
    """Write the sources' rows to a file, each trial once and in its own row group; return the number of rows."""
    schemas = [checked_schema(source, schema) for source in sources]
    unified = pa.unify_schemas(schemas).with_metadata(schemas[0].metadata)
    seen: set[tuple[str, str]] = set()
    rows = 0
    path.unlink(missing_ok=True)
    with path.open("xb") as file:  # a link in its place is not followed
        with pq.ParquetWriter(file, unified, compression="zstd") as writer:
            for source in sources:
                for group in _groups(source, schema):
                    new_keys = [key for key in _keys(group) if key not in seen]
                    seen.update(new_keys)
                    if not new_keys:
                        continue
                    complete = pa.concat_tables([unified.empty_table(), group], promote_options="default")
                    writer.write_table(complete.select(unified.names).cast(unified))
                    rows += group.num_rows
        file.flush()
        os.fsync(file.fileno())
    return rows


def _groups(source: Path, schema: Schema) -> Iterable[Table]:
    if source.name != COMPACTED:
        yield read_file(source, schema)
        return
    with pq.ParquetFile(source.absolute()) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def _keys(table: Table) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(table["study"].to_pylist(), table["trial_id"].to_pylist(), strict=True)))
