"""CSV files with a header, every value as the text that stands there."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from .rows import OTHER_COLUMNS, Columns, Row, check_names

#: Bytes that are read at a time; a longer row is an error.
BLOCK = 16 * 1024**2


def csv_column_names(path: str | os.PathLike[str]) -> list[str]:
    """The header of a CSV file.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        with _open(path) as reader:
            return reader.schema.names
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{os.fspath(path)} cannot be read as CSV: {error}") from error


def csv_values(path: str | os.PathLike[str], names: Sequence[str], advice: str) -> Iterator[tuple[str, list[str]]]:
    """The place of each row of a CSV file, and its values in some columns; few rows are in memory at a time.

    Args:
        path: The file.
        names: The columns.
        advice: What to do if one is missing.

    Raises:
        ValueError: If the file cannot be read, or a column is missing or there twice.
    """
    name, number = os.fspath(path), 0
    check_names(csv_column_names(path), names, name, advice)
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=list(names))
    try:
        with _open(path, as_text) as reader:
            for batch in reader:
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield f"{name}, row {number}", list(values)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as CSV: {error}") from error


def csv_rows(path: Path, columns: Columns, item_separator: str | None = None) -> Iterator[Row]:
    """Rows of a CSV file of sequences.

    Args:
        path: The file.
        columns: The columns of users and of items.
        item_separator: What stands between two items of a cell; by default a cell is a JSON array. An empty cell has no
            items.
    """
    for place, (user, cell) in csv_values(path, columns[:2], OTHER_COLUMNS):  # type: ignore[arg-type]
        if not cell:
            yield Row(place, user, [])
        elif item_separator is not None:
            yield Row(place, user, cell.split(item_separator))
        else:
            try:
                yield Row(place, user, json.loads(cell))
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{place}: the items {cell[:40]!r} are no JSON array. Write them as one, or say what stands "
                    "between two items (item_separator=)"
                ) from error


def _open(path: str | os.PathLike[str], convert: csv.ConvertOptions | None = None) -> csv.CSVStreamingReader:
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=BLOCK),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=convert,
    )
