"""Users to recommend for: an id and a history each, streamed from a table of any kind."""

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq

from ..paths import check_exists
from .csv_files import csv_rows
from .demo import make_demo_world
from .prepared import FACTS_NAME, SEQUENCES_NAME, load_dataset_facts
from .rows import Columns, Row, arrow_rows, json_rows, parquet_rows, with_text_ids
from .sequences import name_of, sequence_rows

#: The name that stands for standard input.
STANDARD_INPUT = "-"


def read_users(
    source: str | os.PathLike[str],
    *,
    user_column: str = "user_id",
    items_column: str = "item_ids",
    item_separator: str | None = None,
) -> Iterator[Row]:
    """Users and their histories, in the order of the table. The whole table is never in memory.

    Args:
        source: A ``.parquet``, ``.csv`` or ``.jsonl`` file with a row a user; a prepared data set, in a folder or on
            the Hub, whose users have their whole history, the test item included; whatever else `load_sequences`
            takes; ``"-"`` for JSON lines from standard input; ``"demo"`` for the made-up world.
        user_column: Column of user ids.
        items_column: Column of histories, lists of raw item ids in time order. An empty or missing list is a user
            without history.
        item_separator: In a CSV file, what stands between two items; by default a cell is a JSON array.

    Yields:
        Rows whose ids are text: ``place``, ``user`` and ``items``.

    Raises:
        FileNotFoundError: If there is no such file, folder or data set.
        ValueError: If it cannot be read, is empty, a column is missing, an id is none, or a user is there twice; the
            message names the row.
    """
    name, columns = name_of(source), Columns(user_column, items_column)
    is_csv = Path(name).suffix.lower() == ".csv"
    if item_separator is not None and not (is_csv and item_separator):
        raise ValueError("item_separator= is for CSV files, and not empty: elsewhere the items are a list.")
    rows = _each_once(map(with_text_ids, _rows(name, columns, item_separator)))
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{_called(name)} is empty: there are no users.")
    return chain([first], rows)


def count_users(source: str | os.PathLike[str]) -> int | None:
    """How many users a table has, where that is known without reading it."""
    path = Path(source)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return pq.read_metadata(path).num_rows
    return load_dataset_facts(path).get("users") if path.is_dir() else None


def _rows(name: str, columns: Columns, item_separator: str | None) -> Iterator[Row]:
    if name == STANDARD_INPUT:
        return json_rows(sys.stdin.buffer, columns, _called(name))
    if name == "demo":
        return arrow_rows(make_demo_world().sequences.data.table, columns, name)
    check_exists(name)
    path = Path(name)
    if path.suffix.lower() == ".csv":
        return csv_rows(path, columns, item_separator)
    if (path / FACTS_NAME).is_file() and load_dataset_facts(path):
        return parquet_rows(path / SEQUENCES_NAME, columns)
    return sequence_rows(name, columns)


def _called(name: str) -> str:
    return "standard input" if name == STANDARD_INPUT else name


def _each_once(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, until a user comes a second time. The users before are kept on disk: there may be millions."""
    with closing(sqlite3.connect("")) as before:  # a temporary file
        before.execute("CREATE TABLE users (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
        for row in rows:
            try:
                before.execute("INSERT INTO users VALUES (?, ?)", (row.user, row.place))
            except sqlite3.IntegrityError as error:
                ((place,),) = before.execute("SELECT place FROM users WHERE id = ?", (row.user,))
                raise ValueError(f"{row.place}: user {row.user!r} is already in {place}") from error
            yield row
