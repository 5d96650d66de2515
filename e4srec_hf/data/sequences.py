"""Read sequences, one row per user, from the reference text format or any `datasets` table."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Sequence, Value, load_dataset, load_from_disk

SEQUENCE_FEATURES = Features({"user_id": Value("string"), "item_ids": Sequence(Value("string"))})


#: File suffixes to readers of `datasets`; any other file is read as reference text.
TABLE_READERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}


def load_sequences(source: str, **columns: str) -> Dataset:
    """Read sequences from a file, a folder or the Hub.

    Args:
        source: A reference text file, a ``.parquet`` or ``.jsonl`` file, a folder saved by `datasets`, or a Hub data
            set (its ``train`` split).
        columns: Names of columns, see [`sequences_from_table`]; ignored for reference text.

    Returns:
        A data set with ``user_id`` and ``item_ids``, one row per user.

    Raises:
        ValueError: If the data cannot be read as sequences; see the readers.
        FileNotFoundError: If there is no such file, folder or data set.
    """
    path = Path(source)
    if not path.exists() and (path.suffix in (".txt", *TABLE_READERS) or source.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{source}: there is no such file or folder.")
    if path.is_file() and path.suffix not in TABLE_READERS:
        return read_sequences(path)
    if path.is_file():
        table = load_dataset(TABLE_READERS[path.suffix], data_files=source, split="train")
    elif path.is_dir() and ((path / "state.json").exists() or (path / "dataset_dict.json").exists()):
        table = load_from_disk(source)
    else:
        if path.is_dir() and not _has_tables(path):
            raise ValueError(f"{source}: no data set is in this folder. Give what e4srec prepare wrote, or a file.")
        table = load_dataset(source)
    if isinstance(table, DatasetDict):
        if list(table) != ["train"]:
            raise ValueError(f"{source} has the splits {list(table)}; expected whole sequences in one split, 'train'.")
        table = table["train"]
    return sequences_from_table(table, **columns)


def _has_tables(folder: Path) -> bool:
    """Whether `datasets` finds files in a folder; it would search all folders below for them, which may take long."""
    suffixes = (*TABLE_READERS, ".csv", ".arrow")
    return any(file.suffix in suffixes for pattern in ("*", "*/*") for file in folder.glob(pattern))


def read_sequences(path: str | os.PathLike[str]) -> Dataset:
    """Read the reference text format: one user per line, the user id followed by item ids in time order.

    Args:
        path: A UTF-8 text file.

    Returns:
        A data set with ``user_id`` and ``item_ids``, one row per user, in file order.

    Raises:
        ValueError: If a line is empty, has no items, repeats a user or is not valid UTF-8; the message names file and
            line.
    """
    rows = list(_read_lines(path))
    if not rows:
        raise ValueError(f"{path}: the file is empty; expected lines of the form 'user item item …'")
    return Dataset.from_dict(
        {"user_id": [user for user, _ in rows], "item_ids": [items for _, items in rows]}, features=SEQUENCE_FEATURES
    )


def read_negatives(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read sampled negatives in the reference format: one user per line, the user id followed by the negatives.

    Raises:
        ValueError: As [`read_sequences`].
    """
    return dict(_read_lines(path))


def _read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    first_line: dict[str, int] = {}
    for number, raw in enumerate(Path(path).read_bytes().splitlines(), start=1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number}: not UTF-8 text ({error.reason} at byte {error.start})") from error
        fields = re.findall(r"[^ \t]+", text)  # an id may contain other white space
        if not fields:
            raise ValueError(f"{path}, line {number}: the line is empty; expected 'user item item …'")
        user, items = fields[0], fields[1:]
        if not items:
            raise ValueError(f"{path}, line {number}: user {user!r} has no items")
        if user in first_line:
            raise ValueError(f"{path}, line {number}: user {user!r} is already in line {first_line[user]}")
        first_line[user] = number
        yield user, items


def sequences_from_table(
    table: Dataset,
    *,
    user_column: str = "user_id",
    items_column: str = "item_ids",
    timestamps_column: str | None = None,
) -> Dataset:
    """Convert a `datasets` table with one row per user into sequences.

    Args:
        table: Any data set with a column of users and a column of item lists in time order.
        user_column: Name of the column of users.
        items_column: Name of the column of item lists. Ids are converted to strings.
        timestamps_column: Name of a column of lists of times, one per item, if there is one.

    Returns:
        A data set with ``user_id``, ``item_ids`` and, if given, ``timestamps``.

    Raises:
        ValueError: If a column is missing, a user is duplicate or has no items, an id is missing, or the times do not
            match the items; the message names the row.
    """
    columns = {"user_id": user_column, "item_ids": items_column}
    if timestamps_column is not None:
        columns["timestamps"] = timestamps_column
    if missing := [name for name in columns.values() if name not in table.column_names]:
        raise ValueError(f"The table has no column {missing}; its columns are {table.column_names}.")
    first_row: dict[str, int] = {}
    users, histories = [], []
    times = table[timestamps_column][:] if timestamps_column is not None else None
    for row, (user, items) in enumerate(zip(table[user_column], table[items_column], strict=True)):
        if user is None or items is None or len(items) == 0:
            raise ValueError(f"Row {row} of the table has no {'user' if user is None else 'items'}.")
        if isinstance(items, str):
            raise ValueError(
                f"Row {row} of the table has the text {items[:40]!r} in the column {items_column!r}; expected a list."
            )
        if any(item is None for item in items):
            raise ValueError(f"Row {row} of the table (user {user!r}) has an item without an id.")
        if times is not None and (times[row] is None or len(times[row]) != len(items)):
            raise ValueError(f"Row {row} of the table (user {user!r}) does not have one time for each item.")
        if str(user) in first_row:
            raise ValueError(f"Row {row} of the table: user {user!r} is already in row {first_row[str(user)]}.")
        first_row[str(user)] = row
        users.append(str(user))
        histories.append([str(item) for item in items])
    sequences = Dataset.from_dict({"user_id": users, "item_ids": histories}, features=SEQUENCE_FEATURES)
    return sequences if times is None else sequences.add_column("timestamps", times)


def catalogue_of(sequences: Dataset) -> list[str]:
    """The item ids of all sequences, each once, in the order of their first appearance."""
    return list(dict.fromkeys(item for items in sequences["item_ids"] for item in items))


def sequences_sha256(sequences: Dataset) -> str:
    """SHA-256 of the sequences, the same for a text file, a Parquet file and a copy on the Hub.

    The hashed text is UTF-8 with one JSON line per user, in the order of the rows: ``["user", ["item", "item"]]``.
    """
    found = hashlib.sha256()
    for user, items in zip(sequences["user_id"], sequences["item_ids"], strict=True):
        found.update(json.dumps([user, list(items)], ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return found.hexdigest()
