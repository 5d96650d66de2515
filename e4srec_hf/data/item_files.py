"""Files that list items, or pairs of a user and an item: one item a line, or a table."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .csv_files import csv_column_names, csv_values
from .item_ids import as_ids
from .rows import ROWS_AT_A_TIME, check_names, json_objects, values_of

ITEM, USER = "item_id", "user_id"
_ADVICE = f"A table of items has a column {ITEM!r}, one of pairs {USER!r} too; a .txt file has an item a line."


def read_items(path: str | os.PathLike[str]) -> list[str]:
    """The items of a file, each once.

    Args:
        path: A ``.txt`` file with a raw id a line; or a ``.csv``, ``.jsonl`` or ``.parquet`` file with a column
            ``item_id``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has no items, or an id is none; the message names the row.
    """
    items = dict.fromkeys(item for (item,) in _ids(path, [ITEM]))
    if not items:
        raise ValueError(f"{os.fspath(path)} is empty: there are no items.")
    return list(items)


def lists_pairs(path: str | os.PathLike[str]) -> bool:
    """Whether a file as for [`read_items`] has a column ``user_id``, and so lists pairs of a user and an item.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    return USER in _column_names(_existing(path))


class UserItems:
    """Items of each user, kept on disk: there may be millions.

    Args:
        path: A ``.csv``, ``.jsonl`` or ``.parquet`` file of pairs, with the columns ``user_id`` and ``item_id``.

    Attributes:
        items: All items in it, each once.
        sha256: Hash of the pairs in their order.

    Raises:
        ValueError: As [`read_items`].
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._pairs = sqlite3.connect("")  # a temporary file
        self._pairs.execute("CREATE TABLE pairs (user TEXT, item TEXT, PRIMARY KEY (user, item)) WITHOUT ROWID")
        digest = hashlib.sha256()
        for pair in _ids(path, [USER, ITEM]):
            digest.update(json.dumps(pair).encode())
            self._pairs.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?)", pair)
        self.sha256 = digest.hexdigest()
        self.items = [item for (item,) in self._pairs.execute("SELECT DISTINCT item FROM pairs ORDER BY item")]
        if not self.items:
            raise ValueError(f"{os.fspath(path)} is empty: there are no pairs.")

    def of(self, user: str) -> list[str]:
        """The items of a user; none for a user that the file does not have."""
        return [item for (item,) in self._pairs.execute("SELECT item FROM pairs WHERE user = ?", (user,))]


def _ids(path: str | os.PathLike[str], names: Sequence[str]) -> Iterator[list[str]]:
    """The ids in some columns, row by row."""
    path = _existing(path)
    read = _READERS.get(path.suffix.lower())
    if read is None and USER in names:
        raise ValueError(f"{path} lists no pairs. {_ADVICE}")
    for place, values in (read or _lines)(path, names):
        try:
            yield as_ids(values)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def _existing(path: str | os.PathLike[str]) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {os.fspath(path)}")
    return Path(path)


def _column_names(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        with _parquet(path) as file:
            return file.schema_arrow.names
    if path.suffix.lower() == ".csv":
        return csv_column_names(path)
    if path.suffix.lower() in _READERS:
        return list(next(json_objects(path, str(path), [ITEM]), ("", {}))[1])
    return []


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error


def _parquet_values(path: Path, names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    with _parquet(path) as file:
        check_names(file.schema_arrow.names, names, str(path), _ADVICE)
        number = 0
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=list(names)):
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                yield f"{path}, row {number}", list(values)
                number += 1


def _csv_values(path: Path, names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    return csv_values(path, names, _ADVICE)


def _json_values(path: Path, names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    for place, found in json_objects(path, str(path), names):
        yield place, values_of(found, names, place, _ADVICE)


def _lines(path: Path, names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path}, line {number}", [line.rstrip("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error


_READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[tuple[str, list[Any]]]]] = {
    ".parquet": _parquet_values,
    ".csv": _csv_values,
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), _json_values),
}
