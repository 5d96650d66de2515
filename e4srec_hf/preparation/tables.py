"""Tables whose columns have types: Parquet files, tables in Python, results of queries."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from ..data.item_ids import check_type_of_ids
from .errors import PreparationError
from .layouts import POSITION_OF_FILE
from .queries import Query
from .source import VALUES, Log
from .sql import present

#: Rows of a batch.
ROWS = 1 << 16


def is_table(value: Any) -> bool:
    """Whether this is a query, or a table of pandas, polars, pyarrow, datasets or others that speak Arrow."""
    return isinstance(value, Query) or hasattr(value, "__arrow_c_stream__") or _is_dataset(value)


def name_of_table(table: Any) -> str:
    """Name of a table in messages and in the written data set, such as ``pandas.DataFrame``."""
    if isinstance(table, Query):
        return table.name
    return f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}"


def facts_of_table(table: Any) -> dict[str, Any]:
    """What is recorded of a table: its name, and the query if it is one."""
    return {"name": name_of_table(table)} | ({"query": table.query} if isinstance(table, Query) else {})


@contextmanager
def open_table(table: Any) -> Iterator[pa.RecordBatchReader]:
    """Open a table, to be read batch by batch.

    Raises:
        PreparationError: If Arrow cannot take it.
    """
    if isinstance(table, Query):
        with table.open() as reader:
            yield reader
        return
    try:
        if _is_dataset(table):
            reader = pa.RecordBatchReader.from_batches(table.features.arrow_schema, _batches_of(table))
        else:
            reader = pa.RecordBatchReader.from_stream(table)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise PreparationError(
            f"{name_of_table(table)} is no table for Arrow: {reason}. A column has values of several types, sparse "
            "ones, or whole numbers beyond 64 bits: write such ids as text."
        ) from error
    yield reader


def read_table(
    connection: duckdb.DuckDBPyConnection,
    reader: pa.RecordBatchReader,
    name: str,
    log: Log,
    number: int,
    statement: Callable[[str], str],
    *,
    names: Sequence[str] | None = None,
    total: int | None = None,
) -> tuple[int, dict[str, str]]:
    """Run ``statement`` on the SQL that selects ``position``, ``reason``, ``content`` and the columns of a table.

    Args:
        connection: The connection.
        reader: The table.
        name: Its name in messages.
        log: The columns to extract.
        number: Number of the table among the files.
        statement: From SQL that selects the columns to the SQL to run.
        names: The names of all columns, if ``reader`` has only those that the log may mean.
        total: Number of rows, if it is known.

    Returns:
        Number of rows, and SQL name of a column to its name in the table.

    Raises:
        PreparationError: If a column is missing or holds no values of its kind, or the table cannot be read.
    """
    places = {column: _place(reader.schema, aliases, name) for column, aliases in log.columns.items()}
    if missing := [column for column, place in places.items() if place is None and column not in log.optional]:
        wanted = ", ".join(repr(log.columns[column][0]) for column in missing)
        raise PreparationError(
            f"{name} has no column {wanted}; its columns are {names or reader.schema.names}. {log.advice}"
        )
    found = {column: place for column, place in places.items() if place is not None}
    for column, place in found.items():
        _check_type(reader.schema.field(place), column, log, name)
    rows = 0
    failure: list[Exception] = []

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        try:
            with tqdm(total=total, desc=f"reading {name}", unit=" rows", unit_scale=True, disable=None) as bar:
                for batch in reader:
                    start = number * POSITION_OF_FILE + rows + 1
                    positions = pa.array(np.arange(start, start + len(batch)))
                    columns = [_plain(batch.column(place), column) for column, place in found.items()]
                    yield pa.record_batch([positions, *columns], schema=schema)
                    rows += len(batch)
                    bar.update(len(batch))
        except Exception as error:  # DuckDB would hide it
            failure.append(error)
            raise

    types = [_plain_type(reader.schema.field(place).type, column) for column, place in found.items()]
    schema = pa.schema([("position", pa.int64()), *zip(found, types, strict=True)])
    texts = [
        f"{_text(column, schema.field(column).type) if column in found else 'NULL::VARCHAR'} AS {column}"
        for column in log.columns
    ]
    connection.register("batches", pa.RecordBatchReader.from_batches(schema, batches()))
    try:
        connection.execute(
            statement(
                f"SELECT position, NULL::VARCHAR AS reason, NULL::VARCHAR AS content, {', '.join(texts)} FROM batches"
            )
        )
    except duckdb.Error:
        if failure:
            raise PreparationError(f"{name} could not be read to its end: {failure[0]}") from failure[0]
        raise
    finally:
        connection.unregister("batches")
    return rows, {column: reader.schema.field(place).name for column, place in found.items()}


def _place(schema: pa.Schema, aliases: tuple[str, ...], name: str) -> int | None:
    """Place of the first of these columns that the table has; the case of letters counts only if both exist."""
    for alias in aliases:
        exact = [place for place, other in enumerate(schema.names) if other == alias]
        places = exact or [place for place, other in enumerate(schema.names) if other.casefold() == alias.casefold()]
        if len(places) > 1:
            raise PreparationError(f"{name} has several columns {alias!r}: give them different names.")
        if places:
            return places[0]
    return None


def _check_type(field: pa.Field, column: str, log: Log, name: str) -> None:
    """Refuse a column whose type cannot be what the column is."""
    if (field.metadata or {}).get(b"POSTGRESQL:type") == b"money":  # it comes as whole numbers of cents
        raise PreparationError(
            f"{name}: column {field.name!r} is money, which is no id, time or number: cast it in SQL."
        )
    kind = _plain_type(field.type, column)
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if column in log.ids:
        try:
            check_type_of_ids(kind)
        except ValueError as error:
            raise PreparationError(
                f"{name}: column {field.name!r} is no column of ids: {error}; whole numbers that became floating-point"
                " numbers where some are missing, as nullable whole numbers (in pandas Int64)."
            ) from error
        return
    numbers_or_times = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    flags = (pa.types.is_boolean,) if column in log.filters else ()
    if not any(holds(kind) for holds in (*numbers_or_times, *texts, *flags)):
        raise PreparationError(f"{name}: column {field.name!r} is {kind}; expected text, numbers or times.")


def _plain_type(kind: pa.DataType, column: str) -> pa.DataType:
    """The type, for values also the text that stands for another type, as for decimal numbers of PostgreSQL."""
    is_text = (
        column.startswith(VALUES) and isinstance(kind, pa.BaseExtensionType) and pa.types.is_string(kind.storage_type)
    )
    return kind.storage_type if is_text else kind


def _plain(values: pa.Array, column: str) -> pa.Array:
    return values if _plain_type(values.type, column) == values.type else values.storage


def _text(column: str, kind: pa.DataType) -> str:
    """SQL for a column as text; a whole number stays one where its column is of floating-point numbers."""
    text = f"CAST({column} AS VARCHAR)"
    if pa.types.is_floating(kind):
        whole = f"CAST(CAST({column} AS BIGINT) AS VARCHAR)"
        text = f"""CASE WHEN NOT isfinite({column}) THEN NULL
            WHEN {column} = trunc({column}) AND abs({column}) < {1 << 53} THEN {whole} ELSE {text} END"""
    return present(text)


def _is_dataset(value: Any) -> bool:
    """Whether this is a `datasets.Dataset`, which is imported only by those who have one."""
    return type(value).__module__.startswith("datasets.") and type(value).__name__ == "Dataset"


def _batches_of(dataset: Any) -> Iterator[pa.RecordBatch]:
    for table in dataset.with_format("arrow").iter(batch_size=ROWS):
        yield from table.to_batches()
