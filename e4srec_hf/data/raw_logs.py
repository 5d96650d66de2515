"""Raw logs, one interaction a row, told from sequences: what they look like, and the command that prepares them."""

import csv
import gzip
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: Files that hold no sequences, whatever is in them.
RAW_SUFFIXES = (".csv", ".tsv", ".dat", ".xls", ".xlsx", ".gz", ".zip")

#: Files of records, which hold sequences only if a record has a list.
RECORD_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet")

#: Parts of column names, the likeliest first. Compared in lower case, without anything but letters.
COLUMN_NAMES = {
    "user": ("userid", "user", "customerid", "customer", "reviewerid", "reviewer", "visitorid", "memberid", "listener"),
    "item": (
        *("itemid", "item", "parentasin", "asin", "productid", "product", "movieid", "businessid", "bookid"),
        *("artistid", "artid", "trackid", "songid", "stockcode", "sku"),
    ),
    "time": ("timestamp", "unixreviewtime", "datetime", "invoicedate", "time", "date", "createdat"),
}


def preparing_command(path: Path) -> str | None:
    """The `e4srec prepare table` command for a raw log, its columns guessed from the header.

    Args:
        path: A file.

    Returns:
        The command, with ``…`` for a column that cannot be told; ``None`` if the file does not look like a raw log.
    """
    found = _columns(path) or {}
    needed = ("user", "item") if path.suffix.lower() in RECORD_SUFFIXES else COLUMN_NAMES
    names_lists = "time" not in found and found.get("item", "").endswith("s")  # a list is missing: another mistake
    if path.suffix.lower() not in RAW_SUFFIXES and (names_lists or not set(needed) <= set(found)):
        return None
    flags = [f"--{kind}-column {shlex.quote(found[kind]) if kind in found else '…'}" for kind in COLUMN_NAMES]
    folder = shlex.quote(f"data/{path.name.partition('.')[0]}")
    return " ".join(["e4srec prepare table", shlex.quote(str(path)), *flags, "--output", folder])


def check_not_raw(path: Path) -> None:
    """Refuse a raw log where sequences are expected.

    Raises:
        ValueError: If the file is a raw log; the message has the command that prepares it.
    """
    command = preparing_command(path) if path.is_file() else None
    if command is not None:
        folder = command.rpartition(" ")[2]
        raise ValueError(
            f"{path} is a raw log, one interaction a row. Prepare it with: {command} (and then train on {folder})"
        )


def guess_columns(header: Sequence[str]) -> dict[str, str]:
    """Which of the columns of a log are its users, its items and its times, of those that can be told."""
    plain = {name: re.sub(r"[^a-z]", "", name.lower()) for name in header}
    found: dict[str, str] = {}
    for kind, likely in COLUMN_NAMES.items():
        exact = [name for part in likely for name in header if plain[name] == part]
        close = [name for part in likely for name in header if part in plain[name]]
        if free := [name for name in (*exact, *close) if name not in found.values()]:
            found[kind] = free[0]
    return found


def _columns(path: Path) -> dict[str, str] | None:
    """Kind to column: by name, or by number from 1 in a file without a header; ``None`` if it cannot be told."""
    if path.suffix.lower() in (".xls", ".xlsx", ".zip"):
        return None
    if path.suffix.lower() == ".parquet":
        return _columns_of_parquet(path)
    lines = _first_lines(path)
    if not lines:
        return None
    if lines[0].lstrip().startswith(("{", "[")):
        return _columns_of_record(lines[0])
    separator = next((mark for mark in ("::", "\t", ";", "|", ",") if mark in lines[0]), None)
    if separator is None:
        return None
    rows = [line.split("::") for line in lines] if separator == "::" else list(csv.reader(lines, delimiter=separator))
    if len({len(row) for row in rows}) > 1 or len(rows[0]) < 2:
        return None
    if not any(_is_number(field) for field in rows[0]):
        return guess_columns(rows[0])
    times = [str(place + 1) for place in range(2, len(rows[0])) if all(_is_time(row[place]) for row in rows)]
    return {"user": "1", "item": "2", **({"time": times[-1]} if times else {})}


def _columns_of_record(line: str) -> dict[str, str] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or any(isinstance(value, list) for value in record.values()):
        return None
    return guess_columns(list(record))


def _columns_of_parquet(path: Path) -> dict[str, str] | None:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        return None
    if any(pa.types.is_list(field.type) or pa.types.is_large_list(field.type) for field in schema):
        return None
    return guess_columns(schema.names)


def _first_lines(path: Path, count: int = 20) -> list[str]:
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            lines = [line.rstrip("\r\n") for _, line in zip(range(count), file, strict=False)]
    except (OSError, UnicodeError, EOFError):
        return []
    return [line for line in lines if line]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    return bool(re.fullmatch(r"\d{9,}(\.\d+)?|\d{4}-\d{2}-\d{2}.*", text.strip()))
