"""Many small files of a study into one of each kind, safe to be killed at any point.

The one file appears whole, under its name or not at all; only then do the small ones go. A reader that finds
both, because a crash came between, keeps each trial's rows once (`analysis.data.results`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.data.files import COMPACTED, Table, checked_schema, read_file, sync_folder, trial_files
from analysis.data.schema import EPOCH, EXAMPLE, RESULT, ResultsError, Schema

KINDS = (EXAMPLE, EPOCH, RESULT)
"""Result rows last: where a trial's row is, its other rows are."""


def compact(study_dir: str | Path, /, *, at_least: int = 2) -> dict[str, int]:
    """Put the rows of a study's small files into one file of each kind, and remove the small ones.

    Rows of trials are kept as they are, each trial in a row group of its own, so that a reader of some trials
    skips the others. An earlier compacted file is taken in.

    Args:
        study_dir: The study's folder; nothing may write to it meanwhile.
        at_least: Small files of a kind that are worth it.

    Returns:
        How many small files went into the one of each kind; kinds with fewer than `at_least` are left out.

    Raises:
        ResultsError: A damaged file, or one of another schema; every file is then as it was.
        OSError: The disk is full, or the folder cannot be written to; likewise.
    """
    merged = {}
    for schema in KINDS:
        folder = Path(study_dir) / schema.folder
        small = [path for path in trial_files(folder) if path.name != COMPACTED]
        if len(small) >= at_least:
            _merge(folder, small, schema)
            merged[schema.name] = len(small)
    return merged


def _merge(folder: Path, small: list[Path], schema: Schema) -> None:
    target, temporary = folder / COMPACTED, folder / f".{COMPACTED}.tmp"
    try:
        written = _write(temporary, [*([target] if target.exists() else []), *small], schema)
        if pq.read_metadata(temporary).num_rows != written:
            raise ResultsError(f"{temporary} lacks rows that were written to it; the disk is not to be trusted")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    for path in small:
        path.unlink()
    sync_folder(folder)


def _write(path: Path, sources: list[Path], schema: Schema) -> int:
    """Write the sources' rows to a file, one source a row group, each trial once; return how many rows."""
    schemas = [checked_schema(source, schema) for source in sources]
    unified = pa.unify_schemas(schemas).with_metadata(schemas[0].metadata)
    seen: set[tuple[str, str]] = set()
    rows = 0
    with path.open("wb") as file:
        with pq.ParquetWriter(file, unified, compression="zstd") as writer:
            for source in sources:
                for group in _groups(source, schema):
                    fresh = [key for key in _keys(group) if key not in seen]
                    seen.update(fresh)
                    if not fresh:
                        continue
                    whole = pa.concat_tables([unified.empty_table(), group], promote_options="default")
                    writer.write_table(whole.select(unified.names).cast(unified))
                    rows += group.num_rows
        file.flush()
        os.fsync(file.fileno())
    return rows


def _groups(source: Path, schema: Schema) -> Iterable[Table]:
    if source.name != COMPACTED:
        yield read_file(source, schema)
        return
    with pq.ParquetFile(source) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def _keys(table: Table) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(table["study"].to_pylist(), table["trial_id"].to_pylist(), strict=True)))
