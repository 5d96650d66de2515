"""Tables of recommendations: their columns, and how they are written as Parquet, CSV or JSON lines."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from .recommender import RankedItems

#: A row a user. The lists are as long as each other, the best item first; a title is null where there is none.
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("titles", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("fallback", pa.bool_()),
        ("unknown_items", pa.int32()),
    ]
)
#: Tables that are written as one row group of a Parquet file.
TABLES_A_ROW_GROUP = 16


def table_of(users: Sequence[str], ranked: Sequence[RankedItems]) -> pa.Table:
    """A table of the recommendations for some users."""
    columns = {
        "user_id": users,
        "item_ids": [[item.item for item in one.items] for one in ranked],
        "titles": [[item.title or None for item in one.items] for one in ranked],
        "scores": [[item.score for item in one.items] for one in ranked],
        "fallback": [one.fallback for one in ranked],
        "unknown_items": [one.unknown_items for one in ranked],
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def write_parquet(tables: Iterable[pa.Table], file: IO[bytes]) -> None:
    """Write tables as a Parquet file; few of them are in memory at a time."""
    tables = iter(tables)
    with pq.ParquetWriter(file, SCHEMA) as writer:
        while some := list(islice(tables, TABLES_A_ROW_GROUP)):
            together = pa.concat_tables(some)
            writer.write_table(together, row_group_size=len(together))


def write_csv(tables: Iterable[pa.Table], file: IO[bytes]) -> None:
    """Write tables as a CSV file with a header, in UTF-8; the lists are JSON arrays."""

    def cell(value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list | bool) else value

    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(SCHEMA.names)
    rows.writerows([cell(value) for value in row.values()] for row in _rows(tables))
    text.detach()


def write_json_lines(tables: Iterable[pa.Table], file: IO[bytes]) -> None:
    """Write tables as JSON lines, in UTF-8, each table as soon as it is there."""
    for table in tables:
        file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in _rows([table]))
        file.flush()


#: File suffixes to what writes such a file.
WRITERS: dict[str, Callable[[Iterable[pa.Table], IO[bytes]], None]] = {
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
}


def _rows(tables: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    return (row for table in tables for row in table.to_pylist())
