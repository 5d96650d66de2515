"""Rows of sequences, each with its place: from text, JSON lines, a JSON array or an Arrow table. No type is guessed."""

import json
import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from .item_ids import as_ids, check_type_of_ids

#: Rows that are held as Python objects at a time.
ROWS_AT_A_TIME = 10_000
#: How an Arrow file begins, unless it is a stream.
ARROW_FILE = b"ARROW1"
#: What to do about columns of other names.
OTHER_COLUMNS = (
    "Name the columns of users and of item lists (--user_column, --items_column); a log with one interaction a row is "
    "prepared first (e4srec prepare table)."
)
_BLANKS = re.compile(r"[ \t\r\n]*")


class Columns(NamedTuple):
    """Names of the columns of a table of sequences."""

    user_column: str = "user_id"
    items_column: str = "item_ids"
    timestamps_column: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [name for name in self if name is not None]


class Row(NamedTuple):
    """A sequence as it stands in its source: file and line, or the number of its row; user, items and times."""

    place: str
    user: Any
    items: Any
    times: Any = None


def with_text_ids(row: Row) -> Row:
    """A row with its ids as text; a list that is missing is empty.

    Raises:
        ValueError: If an id can be none, or there is something else than a list of items; the message names the place.
    """
    try:
        (user,) = as_ids([row.user])
    except ValueError as error:
        raise ValueError(f"{row.place}: the user: {error}") from error
    if not isinstance(row.items, list | None):
        raise ValueError(f"{row.place}: user {user!r} has {str(row.items)[:40]!r}; expected a list of item ids.")
    try:
        return row._replace(user=user, items=as_ids(row.items or []))
    except ValueError as error:
        raise ValueError(f"{row.place}: user {user!r}: {error}") from error


def text_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Lines of the reference text format, ``user item item …``."""
    for number, raw in enumerate(Path(path).read_bytes().splitlines(), start=1):
        place = f"{path}, line {number}"
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(_not_utf8(error, os.fspath(path), number)) from error
        if number == 1 and _is_json(text):
            raise ValueError(f"{place}: this is JSON; give the file the suffix .jsonl or .json.")
        fields = re.findall(r"[^ \t]+", text)  # an id may contain other white space
        if not fields:
            raise ValueError(f"{place}: the line is empty; expected 'user item item …'")
        yield Row(place, fields[0], fields[1:])


def json_rows(path: str | os.PathLike[str] | IO[bytes], columns: Columns, name: str | None = None) -> Iterator[Row]:
    """Objects of a JSON file, one a line or in an array.

    Args:
        path: The file, or a stream of it; lines are read as they are asked for, an array is read as a whole.
        columns: The keys to take.
        name: What the file is called in messages; by default its path.
    """
    name = name or os.fspath(path)  # type: ignore[arg-type]
    for place, found in json_objects(path, name, columns.names):
        yield Row(place, *values_of(found, columns.names, place, OTHER_COLUMNS))


def json_objects(
    path: str | os.PathLike[str] | IO[bytes], name: str, expected: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON file, one a line or in an array, each with its place; the ``expected`` keys may be missing."""
    for number, found in _json_values(path, name):
        place = f"{name}, line {number}"
        if not isinstance(found, dict):
            raise ValueError(f"{place}: expected an object with the keys {list(expected)}, not {str(found)[:40]}.")
        yield place, found


def values_of(found: dict[str, Any], names: Sequence[str], place: str, advice: str) -> list[Any]:
    """The values of these keys of an object; a missing one is a `ValueError`."""
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{place}: the object has no {missing}; its keys are {list(found)}. {advice}")
    return [found[name] for name in names]


def parquet_rows(path: str | os.PathLike[str], columns: Columns, name: str | None = None) -> Iterator[Row]:
    """Rows of a Parquet file; arguments as for [`json_rows`]."""
    name = name or os.fspath(path)
    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow, columns, name)
            batches = file.iter_batches(ROWS_AT_A_TIME, columns=columns.names)
            yield from _rows_of_batches(batches, columns, name)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as Parquet: {error}") from error


def arrow_file_rows(path: str | os.PathLike[str], columns: Columns, name: str | None = None) -> Iterator[Row]:
    """Rows of an Arrow file, which may have the format of a stream; arguments as for [`json_rows`]."""
    name = name or os.fspath(path)
    try:
        with pa.memory_map(os.fspath(path)) as file:
            is_file = file.read(len(ARROW_FILE)) == ARROW_FILE
            file.seek(0)
            table = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as Arrow: {error}") from error
    yield from arrow_rows(table, columns, name)


def arrow_rows(table: pa.Table, columns: Columns, name: str) -> Iterator[Row]:
    """Rows of a table in memory, or mapped into it; ``name`` is what it is called in messages."""
    check_columns(table.schema, columns, name)
    yield from _rows_of_batches(iter(table.to_batches(ROWS_AT_A_TIME)), columns, name)


def _rows_of_batches(batches: Iterator[pa.RecordBatch], columns: Columns, name: str) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for values in zip(*(batch.column(column).to_pylist() for column in columns.names), strict=True):
            yield Row(f"{name}, row {number}", *values)
            number += 1


def check_names(found: Sequence[str], wanted: Sequence[str], name: str, advice: str) -> None:
    """Refuse a table in which a column is missing, or is there twice."""
    if missing := [column for column in wanted if column not in found]:
        raise ValueError(f"{name} has no column {missing}; its columns are {list(found)}. {advice}")
    if repeated := [column for column in wanted if list(found).count(column) > 1]:
        raise ValueError(f"{name} has more than one column {repeated}: keep the one that is meant.")


def check_columns(schema: pa.Schema, columns: Columns, name: str) -> None:
    """Refuse a table without these columns, or with columns whose types hold no ids."""
    check_names(schema.names, columns.names, name, OTHER_COLUMNS)
    kinds = {column: schema.field(column).type for column in columns[:2]}
    items = kinds[columns.items_column]
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    if any(is_list(items) for is_list in (*lists, pa.types.is_large_list_view)):
        kinds[columns.items_column] = items.value_type
    elif not pa.types.is_null(items):
        raise ValueError(f"{name}: the column {columns.items_column!r} holds {items}; expected a list of ids in a row.")
    for column, kind in kinds.items():
        try:
            check_type_of_ids(kind)
        except ValueError as error:
            raise ValueError(f"{name}: the column {column!r} can hold no ids: {error}.") from error


def _json_values(path: str | os.PathLike[str] | IO[bytes], name: str) -> Iterator[tuple[int, Any]]:
    """Values of a JSON file with the numbers of their lines."""
    number = 0
    try:
        with open(path, "rb") if isinstance(path, str | os.PathLike) else nullcontext(path) as file:
            for number, raw in enumerate(file, start=1):
                is_array = raw.removeprefix(BOM_UTF8).lstrip().startswith(b"[")
                raw += file.read() if is_array else b""
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if is_array:
                    yield from _values_of_array(text, number)
                elif not text.isspace():
                    yield number, _DECODER.decode(text)
    except json.JSONDecodeError as error:
        line, problem = number + error.lineno - 1, f"{error.msg} at character {error.colno}"
        raise ValueError(
            f"{name}, line {line}: not JSON ({problem}); expected an object a line, or an array of objects."
        ) from error
    except RecursionError as error:
        raise ValueError(f"{name}, line {number}: the JSON is nested too deeply.") from error
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(error, name, number)) from error
    except ValueError as error:
        raise ValueError(f"{name}, line {number}: {error}") from error


def _values_of_array(text: str, line: int) -> Iterator[tuple[int, Any]]:
    counted, place = 0, _after_blanks(text, text.index("[") + 1)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        value, end = _DECODER.raw_decode(text, place)
        yield line, value
        place = _after_blanks(text, end)
        if text[place : place + 1] == ",":
            place = _after_blanks(text, place + 1)
        elif text[place : place + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
    if (end := _after_blanks(text, place + 1)) < len(text):
        raise json.JSONDecodeError("Extra data", text, end)


def _after_blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    return found.end() if found else place


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise json.JSONDecodeError("a key comes twice", "", 0)
    return found


def _whole_number(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)  # as an int it would be another id than the text "-0"


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole_number)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _not_utf8(error: UnicodeDecodeError, name: str, number: int) -> str:
    line = number + error.object.count(b"\n", 0, error.start)
    return f"{name}, line {line}: not UTF-8 text ({error.reason} at byte {error.start})"
