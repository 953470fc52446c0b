"""List a study's Parquet files, and check and read one of them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.data.columns import ResultsError, Schema
from analysis.data.proof_results import PROOF, refusal

Table: TypeAlias = pa.Table

COMPACTED = "compacted.parquet"
"""The file that holds the rows of many trials once a study has ended; see `analysis.data.compaction`."""

KIND = b"robust_study.schema"
VERSION = b"robust_study.schema_version"
TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "list<string>": pa.list_(pa.string()),
}


class SchemaError(ResultsError):
    """Rows or files whose columns differ from the declared ones."""


def trial_files(folder: Path, /) -> list[Path]:
    """Return the complete Parquet files of a study's subfolder, the compacted one first; none if it does not exist."""
    names = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
    complete = (name for name in names if name.endswith(".parquet") and name[0] != ".")
    return [folder / name for name in sorted(complete, key=lambda name: (name != COMPACTED, name))]


def unlinked(path: Path, /) -> Path:
    """Return a path to write to, after deleting a link in its place, which could lead to any file."""
    if path.is_symlink():
        path.unlink()
    return path


def sync_folder(folder: Path, /) -> None:
    """Have the disk hold which files a folder has now."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: Path, schema: Schema, /, *, trials: Collection[str] | None = None) -> Table:
    """Return one file's rows, checked against the schema; `trials` selects rows of a compacted file.

    Raises:
        ResultsError: Not a complete Parquet file.
        SchemaError: Another schema version or other columns.
    """
    checked_schema(path, schema)
    place = path.absolute()  # pyarrow takes a relative s3:x for a URI
    try:
        if trials is None or path.name != COMPACTED:
            with pq.ParquetFile(place) as file:
                return file.read(use_threads=False)
        selected = pc.field("trial_id").isin(pa.array(sorted(trials), pa.string()))
        return pq.read_table(place, filters=selected, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def checked_schema(path: Path, schema: Schema, /) -> Any:
    """Return one file's Arrow schema after checking it; raises as `read_file` does."""
    try:
        columns = pq.read_schema(path.absolute())
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    _check_schema(path, columns, schema)
    _check_size(path)
    return columns


def _check_size(path: Path) -> None:
    """Refuse a file whose rows do not fit in memory: however often a value is repeated, a file holds it once."""
    metadata = pq.read_metadata(path.absolute())
    rows, columns = metadata.num_rows, metadata.num_columns
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 8 * rows * columns > memory:
        raise ResultsError(f"{path} holds {rows:,} rows of {columns} columns, more than fits in memory; move it away")


def _damaged(path: Path, error: Exception) -> ResultsError:
    reason = str(error).splitlines()[0]
    return ResultsError(f"{path} is not a complete Parquet file ({reason}); move it away and resume the study")


def _check_schema(path: Path, columns: Any, schema: Schema) -> None:
    metadata = columns.metadata or {}
    kind, version = metadata.get(KIND, b"").decode(), metadata.get(VERSION, b"").decode()
    if kind == PROOF.name != schema.name:
        raise SchemaError(refusal(path))
    if kind != schema.name:
        contents = f"{kind} rows" if kind else "no robust-study schema"
        raise SchemaError(
            f"{path} must hold {schema.name} rows, but has {contents}; move it out of {path.parent.name}/"
        )
    if version != str(schema.version):
        raise SchemaError(
            f"{path} has {schema.name} schema version {version or 'unknown'}, this robust-study reads version "
            f"{schema.version}; read it with the robust-study that wrote it"
        )
    names = set(columns.names)
    missing = [column.name for column in schema.columns if column.name not in names and not column.added]
    if missing:
        raise SchemaError(f"{path} has no {schema.name} column {missing[0]!r}; move it away and resume the study")
    for entry in columns:
        column = schema.find(entry.name)
        if column is None:
            raise SchemaError(f"{path} has the unknown column {entry.name!r}; remove it or move the file away")
        if entry.type != TYPES[column.type]:
            raise SchemaError(f"{path}: column {entry.name!r} must be {column.type}, got {entry.type}; move it away")
