"""Read and write a study's Parquet files atomically, checked against `analysis.data.schema`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.data.columns import Column, Schema
from analysis.data.files import COMPACTED, KIND, TYPES, VERSION, read_file, sync_folder, trial_files
from analysis.data.files import SchemaError as SchemaError
from analysis.data.files import Table as Table
from analysis.data.proof_results import PROOF, holds_proof, refusal
from analysis.data.schema import (
    EPOCH,
    EVALUATION,
    EXAMPLE,
    RESULT,
    SEPARATION,
    ResultsError,
    differing_columns,
)

_SMALL = 100
_LOG = logging.getLogger(__name__)


class ExistingRowsError(ResultsError):
    """A trial's file exists with other deterministic values."""


def trial_file(study_dir: str | Path, trial_id: str, /, *, schema: Schema = RESULT) -> Path:
    """Return the path of a trial's rows of this kind in a study folder."""
    if not trial_id or trial_id.startswith(".") or set(trial_id) & set("/\\"):
        raise ResultsError(f"`trial_id` must be usable as a file name, got {trial_id!r}")
    return Path(study_dir) / schema.folder / f"{trial_id}.parquet"


def examples_file(study_dir: str | Path, evaluation: str, /) -> Path:
    """Return the path of a measurement's per-example outcomes, given its row's `evaluation`."""
    file = trial_file(study_dir, evaluation, schema=EVALUATION)
    return file.parent / EXAMPLE.folder / file.name


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]], schema: Schema, *, replace: bool = False) -> bool:
    """Write rows to `path` atomically; keep the file if it already holds them.

    Args:
        path: The file; its folder is created if missing.
        rows: Column name to value. Columns missing from a row become null where the schema allows null.
        schema: The declared columns.
        replace: Overwrite an existing file without comparing it.

    Returns:
        True if written, False if the file existed and agrees in every deterministic column.

    Raises:
        SchemaError: Unknown, missing or mistyped columns.
        ExistingRowsError: The file exists and differs in deterministic columns.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return write_columns(path, columns, schema, replace=replace)


def write_columns(path: str | Path, columns: Mapping[str, Any], schema: Schema, *, replace: bool = False) -> bool:
    """Write columns to `path` atomically, as `write_rows` does.

    Args:
        path: The file; its folder is created if missing.
        columns: Column name to a list or 1-d array, all of one length.
        schema: The declared columns.
        replace: Overwrite an existing file without comparing it.
    """
    path = Path(path)
    table = to_table(columns, schema, where=str(path))
    if path.exists() and not replace:
        _require_same(path, table, schema)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, table)
    return True


def to_table(columns: Mapping[str, Any], schema: Schema, /, *, where: str = "rows") -> Table:
    """Return columns as a table of the schema, with its version in the metadata.

    Raises:
        SchemaError: Unknown, missing or mistyped columns; the message starts with `where`.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise SchemaError(f"{where}: columns must have one length, got {sorted(lengths)}")
    for name in columns:
        if schema.find(name) is None:
            raise SchemaError(f"{where}: unknown {schema.name} column {name!r}; declare it in analysis/data/schema.py")
    length = lengths.pop() if lengths else 0
    dynamic = (column for name in sorted(columns) if name not in schema.by_name and (column := schema.find(name)))
    arrays, fields = [], []
    for column in (*schema.columns, *dynamic):
        arrays.append(_to_array(columns.get(column.name, [None] * length), column, where=where))
        fields.append(pa.field(column.name, TYPES[column.type], nullable=column.nullable))
    metadata = {KIND: schema.name.encode(), VERSION: str(schema.version).encode()}
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def write_plain(path: str | Path, columns: Mapping[str, Any], /) -> None:
    """Write columns of a table meant for readers as a Parquet file without a declared schema."""
    pq.write_table(pa.table(dict(columns)), Path(path).absolute())


def example_columns(
    examples: Mapping[str, Mapping[str, np.ndarray]],
    /,
    *,
    study: str,
    trial_id: str,
    checkpoint: str,
    attack: str,
    epsilon: float,
) -> dict[str, Any]:
    """Return per-example outcomes, split by split, as columns for `write_columns`.

    Args:
        examples: Split name to arrays (n,) `index`, `clean_correct`, `robust_correct`, and optionally `lipschitz` and
            `lipschitz_scale_free`, shorter than n or NaN where not measured; both become null.
        study: Name of the study.
        trial_id: The trial.
        checkpoint: "last" or "best".
        attack: The attack's name.
        epsilon: Radius of the measurement, in pixel range.
    """
    counts = [len(arrays["index"]) for arrays in examples.values()]
    total = sum(counts)
    constants = {"study": study, "trial_id": trial_id, "checkpoint": checkpoint, "attack": attack}
    columns: dict[str, Any] = {name: [value] * total for name, value in constants.items()}
    columns["epsilon"] = np.full(total, float(epsilon))
    columns["split"] = [split for split, count in zip(examples, counts, strict=True) for _ in range(count)]
    for name in ("index", "clean_correct", "robust_correct"):
        columns[name] = np.concatenate([np.asarray(arrays[name]) for arrays in examples.values()]) if examples else []
    for name in ("lipschitz", "lipschitz_scale_free"):
        parts: list[float | None] = []
        for arrays, count in zip(examples.values(), counts, strict=True):
            values = np.asarray(arrays.get(name, ()), dtype=float)
            parts += [None if np.isnan(value) else float(value) for value in values] + [None] * (count - len(values))
        columns[name] = parts
    return columns


def read_results(source: str | Path, /, *, skip_damaged: bool = False) -> Table:
    """Return the result rows of a study folder or of one Parquet file, sorted by trial number.

    Args:
        source: Study folder, or a file of many rows.
        skip_damaged: Skip incomplete Parquet files with a warning instead of raising.

    Returns:
        Every declared column, and each `param.*` column of any file (null where a file has none). No files give a
        table without rows. Temporary files left by a crash are ignored.

    Raises:
        ResultsError: No such folder, a damaged file, or a trial that appears twice with different values.
        SchemaError: A file with another schema version or other columns.
    """
    return _read(Path(source), RESULT, skip_damaged=skip_damaged)


def read_epochs(source: str | Path, /, *, trials: Collection[str] | None = None, skip_damaged: bool = False) -> Table:
    """Return the epoch rows of a study folder or file, sorted by trial number and epoch; see `read_examples`."""
    return _read(Path(source), EPOCH, skip_damaged=skip_damaged, trials=trials)


def read_examples(source: str | Path, /, *, trials: Collection[str] | None = None, skip_damaged: bool = False) -> Table:
    """Return the per-example outcomes of a study folder or file, in file order; see `read_results`.

    Args:
        source: Study folder or file.
        trials: Ids of the trials to read, all when None; of a folder, only their files are opened.
        skip_damaged: As in `read_results`.
    """
    return _read(Path(source), EXAMPLE, skip_damaged=skip_damaged, trials=trials)


def read_separation(source: str | Path, /) -> Table:
    """Return the distances that `robust-study separation` wrote to a file, in file order; see `read_results`."""
    return _read(Path(source), SEPARATION, skip_damaged=False)


def read_evaluations(source: str | Path, /, *, split: str = "test", skip_damaged: bool = False) -> Table:
    """Return a study's measurements of kept networks on one split, sorted by trial; see `read_results`."""
    table = _read(Path(source), EVALUATION, skip_damaged=skip_damaged)
    return table.filter(pc.equal(table["split"], split))


_PLAIN: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "int32": lambda value: isinstance(value, (int, np.integer)) and not isinstance(value, bool),
    "int64": lambda value: isinstance(value, (int, np.integer)) and not isinstance(value, bool),
    "float64": lambda value: isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, (bool, np.bool_)),
    "list<string>": lambda value: isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value),
}
_DTYPE_KINDS = {"int32": "iu", "int64": "iu", "float64": "iuf", "bool": "b"}


def _to_array(values: Any, column: Column, *, where: str) -> Any:
    """Convert values, refusing what pyarrow would silently cast (a bool to 1.0, 1.5 to 1, null where not allowed)."""
    if isinstance(values, np.ndarray) and values.dtype.kind in _DTYPE_KINDS.get(column.type, ""):
        return pa.array(values.astype(column.type, casting="same_kind", copy=False), type=TYPES[column.type])
    for value in values:
        if value is None and not column.nullable:
            raise SchemaError(f"{where}: column {column.name!r} must not be null ({column.doc}); give it a value")
        if value is not None and not _PLAIN[column.type](value):
            raise SchemaError(f"{where}: column {column.name!r} must be {column.type}, got {value!r}")
        if value is not None and column.choices and value not in column.choices:
            choices = ", ".join(column.choices)
            raise SchemaError(f"{where}: column {column.name!r} must be one of {choices}, got {value!r}")
    try:
        return pa.array(list(values), type=TYPES[column.type])
    except (pa.ArrowInvalid, OverflowError) as error:
        raise SchemaError(f"{where}: column {column.name!r} must be {column.type}: {error}") from error


def _require_same(path: Path, table: Table, schema: Schema) -> None:
    existing = read_file(path, schema)
    if existing.num_rows != table.num_rows:
        raise ExistingRowsError(
            f"{path} exists with {existing.num_rows} rows, not {table.num_rows}; it was not changed: "
            f"give the trial another id, or move the file away"
        )
    differing: dict[str, tuple[Any, Any]] = {}
    for old, new in zip(existing.to_pylist(), table.to_pylist(), strict=True):
        differing = {**differing_columns(old, new, schema=schema), **differing}
    if differing:
        name, (old_value, new_value) = next(iter(differing.items()))
        raise ExistingRowsError(
            f"{path} exists and differs in {', '.join(differing)} ({name}: {old_value!r} on disk, {new_value!r} now); "
            f"it was not changed: give the trial another id, or move the file away"
        )


def write_table(path: str | Path, table: Table, /) -> None:
    """Write a table unchanged to `path` atomically, replacing an existing file."""
    path = Path(path)
    # No ".parquet" suffix: readers must not pick up a file left by a crash.
    temporary = path.with_name(f".{path.name}.tmp")
    # Dictionaries and compression make the thousands of one-row files larger and slower to read.
    large = table.num_rows > _SMALL
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # a link in its place is not followed
            pq.write_table(table, file, compression="zstd" if large else "none", use_dictionary=large)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _read(source: Path, schema: Schema, *, skip_damaged: bool, trials: Collection[str] | None = None) -> Table:
    tables, origins = [], []
    compacted_trials: set[str] = set()
    for path in _files(source, schema, trials):
        if path.stem in compacted_trials:
            continue  # a crash came before this file was deleted
        try:
            table = read_file(path, schema, trials=trials)
        except SchemaError:
            raise
        except ResultsError as error:
            if source.is_dir() and not os.path.lexists(path):
                # compacted since the folder was listed: its rows are in another file now
                return _read(source, schema, skip_damaged=skip_damaged, trials=trials)
            if not skip_damaged:
                raise
            _LOG.warning("skipped: %s", error)
            continue
        tables.append(table)
        if path.name == COMPACTED and schema is not RESULT:
            compacted_trials = set(table["trial_id"].to_pylist())
        origins += [path] * table.num_rows if schema is RESULT else []
    table = pa.concat_tables([to_table({}, schema), *tables], promote_options="default").combine_chunks()
    if trials is not None and source.is_file():
        table = table.filter(pa.array([trial in trials for trial in table["trial_id"].to_pylist()], type=pa.bool_()))
    if schema is RESULT:
        table = _drop_repeats(_nan_as_null(table), origins)
    return table.sort_by([(name, "ascending") for name in schema.order]) if schema.order else table


def _nan_as_null(table: Table) -> Table:
    """Return a table whose missing accuracies are null: other programs write them as NaN."""
    columns = [
        pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column) if name.endswith("_accuracy") else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(columns, schema=table.schema)


def _files(source: Path, schema: Schema, trials: Collection[str] | None) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ResultsError(
            f"{source} is neither a study folder nor a Parquet file; `--out` sets the folder that holds studies"
        )
    if schema is not PROOF and holds_proof(source):
        raise SchemaError(refusal(source))
    if trials is not None:
        files = (trial_file(source, trial, schema=schema) for trial in sorted(trials))
        return [path for path in (source / schema.folder / COMPACTED, *files) if path.exists()]
    return trial_files(source / schema.folder)


def _drop_repeats(table: Table, origins: list[Path]) -> Table:
    """Keep one row per (study, trial); a compacted file may repeat rows that small files still hold."""
    if table.group_by(["study", "trial_id"]).aggregate([]).num_rows == table.num_rows:
        return table
    first: dict[tuple[str, str], int] = {}
    for index, key in enumerate(zip(table["study"].to_pylist(), table["trial_id"].to_pylist(), strict=True)):
        earlier = first.setdefault(key, index)
        rows = table.take([earlier, index]).to_pylist()
        if differing := {} if earlier == index else differing_columns(*rows):
            raise ResultsError(
                f"{origins[index]} and {origins[earlier]} both hold trial {key[1]} of study {key[0]} and differ in "
                f"{', '.join(differing)}; move one away"
            )
    return table if len(first) == table.num_rows else table.take(list(first.values()))
