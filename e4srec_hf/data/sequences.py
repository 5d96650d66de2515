"""Read sequences, one row per user, from the reference text format or any `datasets` table."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import (
    Dataset,
    DatasetInfo,
    DownloadManager,
    Features,
    Sequence,
    Value,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.table import InMemoryTable
from huggingface_hub import metadata_load

from .raw_logs import check_not_raw
from .rows import (
    ROWS_AT_A_TIME,
    Columns,
    Row,
    arrow_file_rows,
    arrow_rows,
    json_rows,
    parquet_rows,
    text_rows,
    with_text_ids,
)

SEQUENCE_FEATURES = Features({"user_id": Value("string"), "item_ids": Sequence(Value("string"))})

#: File suffixes to what reads their rows; any other file is read as reference text.
TABLE_READERS: dict[str, Callable[[Path, Columns], Iterator[Row]]] = {
    ".parquet": parquet_rows,
    ".arrow": arrow_file_rows,
    ".json": json_rows,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
}


def load_sequences(source: str | os.PathLike[str], **columns: str) -> Dataset:
    """Read sequences from a file, a folder or the Hub. Ids stay as they stand there, see [`as_ids`].

    Args:
        source: A reference text file, a ``.parquet``, ``.arrow``, ``.json`` or ``.jsonl`` file, a folder saved by
            `datasets`, or a Hub data set (its ``train`` split).
        columns: Names of columns, see [`sequences_from_table`]; ignored for reference text.

    Returns:
        A data set with ``user_id`` and ``item_ids``, one row per user.

    Raises:
        ValueError: If the data cannot be read as sequences; see the readers. For a raw log, the message has the command
            that prepares it.
        FileNotFoundError: If there is no such file, folder or data set.
        TypeError: If the source is no name.
    """
    name, wanted = name_of(source), Columns(**columns)
    is_text = os.path.isfile(name) and Path(name).suffix.lower() not in TABLE_READERS
    return _sequences(sequence_rows(name, wanted), name, timed=not is_text and wanted.timestamps_column is not None)


def sequence_rows(source: str, columns: Columns) -> Iterator[Row]:
    """The rows of what [`load_sequences`] reads, unchecked. Of Parquet and of JSON lines few are in memory at a time.

    Args:
        source: As for [`load_sequences`].
        columns: Names of the columns.

    Raises:
        ValueError: As [`load_sequences`], partly when the first row is asked for.
        FileNotFoundError: If there is no such file, folder or data set.
    """
    path = Path(source)
    read = TABLE_READERS.get(path.suffix.lower())
    if not path.exists() and (path.suffix == ".txt" or read or source.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{source}: there is no such file or folder.")
    check_not_raw(path)
    if path.is_file():
        return text_rows(path) if read is None else read(path, columns)
    if path.is_dir() and not (_is_saved(path) or _has_tables(path)):
        raise ValueError(f"{source}: no data set is in this folder. Give what e4srec prepare wrote, or a file.")
    if _is_saved(path):
        return arrow_rows(_arrow(_whole(load_from_disk(source), source)), columns, source)
    return _rows_found_by_datasets(source, columns)


def name_of(source: str | os.PathLike[str]) -> str:
    """The name of a data set as text.

    Raises:
        TypeError: If it is something else than a name, such as a table.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"expected the name of a file, a folder or a data set on the Hub, not {_kind_of(source)}; "
            "sequences_from_table takes a datasets.Dataset."
        )
    return str(os.fspath(source))


def _kind_of(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__module__}.{type(value).__name__}"


def _is_saved(folder: Path) -> bool:
    return (folder / "state.json").exists() or (folder / "dataset_dict.json").exists()


def _rows_found_by_datasets(source: str, columns: Columns) -> Iterator[Row]:
    """Rows of a folder or a Hub data set, whose files `datasets` finds.

    It would guess the types of JSON, and cast the ids of all files to the type in the first.
    """
    builder = load_dataset_builder(source)
    _check_all_read(Path(source), builder.config.data_files)
    readers = ((Json, json_rows), (Parquet, parquet_rows), (Arrow, arrow_file_rows))
    if read := next((reader for kind, reader in readers if isinstance(builder, kind)), None):
        names = _whole(builder.config.data_files, source)
        for name, file in zip(names, DownloadManager().download_and_extract(list(names)), strict=True):
            yield from read(file, columns, name)
        return
    try:
        builder.download_and_prepare()
    except DatasetGenerationError as error:
        raise ValueError(f"{source} cannot be read: {error.__cause__ or error}") from error
    yield from arrow_rows(_arrow(_whole(builder.as_dataset(), source)), columns, source)


def _whole(splits: Any, source: str) -> Any:
    """The only split of a data set."""
    if not isinstance(splits, Mapping):
        return splits
    if list(splits) != ["train"]:
        raise ValueError(f"{source} has the splits {list(splits)}; expected whole sequences in one split, 'train'.")
    return splits["train"]


def _arrow(table: Dataset) -> pa.Table:
    return table.with_format("arrow")[:]


def _has_tables(folder: Path) -> bool:
    """Whether `datasets` finds files in a folder; it would search all folders below for them, which may take long."""
    return next(_tables(folder), None) is not None


def _tables(folder: Path) -> Iterator[Path]:
    suffixes = (*TABLE_READERS, ".csv")
    return (file for pattern in ("*", "*/*") for file in folder.glob(pattern) if file.suffix.lower() in suffixes)


def _check_all_read(folder: Path, data_files: Mapping[str, list[str]]) -> None:
    """Refuse a folder of which `datasets` would read some tables only, unless its card says which."""
    card = folder / "README.md"
    if not folder.is_dir() or (card.is_file() and "configs" in (metadata_load(card) or {})):
        return
    read = {Path(file).resolve() for files in data_files.values() for file in files}
    left = sorted(str(file.relative_to(folder)) for file in _tables(folder) if file.resolve() not in read)
    if left:
        taken = ", ".join(sorted(file.name for file in read)[:3])
        raise ValueError(
            f"{folder} has several tables, and {', '.join(left[:3])} would not be read beside {taken}: give one file, "
            "or a folder whose files are all of one format."
        )


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
    return _sequences(text_rows(path), os.fspath(path))


def read_negatives(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read sampled negatives in the reference format: one user per line, the user id followed by the negatives.

    Raises:
        ValueError: As [`read_sequences`].
    """
    return {row.user: row.items for row in _checked(text_rows(path))}


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
        items_column: Name of the column of item lists. An id is text or a whole number, and stays as it stands.
        timestamps_column: Name of a column of lists of times, one per item, if there is one.

    Returns:
        A data set with ``user_id``, ``item_ids`` and, if given, ``timestamps``.

    Raises:
        ValueError: If a column is missing or its type holds no ids, an id is missing, empty or has control characters,
            a user is duplicate or has no items, or the times do not match the items; the message names the row.
        TypeError: If it is no `datasets.Dataset`.
    """
    if not isinstance(table, Dataset):
        raise TypeError(
            f"expected a datasets.Dataset, not {_kind_of(table)}: make one with Dataset.from_list, from_pandas or "
            "from_generator."
        )
    rows = arrow_rows(_arrow(table), Columns(user_column, items_column, timestamps_column), "the table")
    return _sequences(rows, "the table", timed=timestamps_column is not None)


def _sequences(rows: Iterable[Row], name: str, *, timed: bool = False) -> Dataset:
    """A data set of rows, which are checked; few of them are Python objects at a time."""
    checked, times, batches = _checked(rows), [], []
    while batch := list(islice(checked, ROWS_AT_A_TIME)):
        values = {"user_id": [row.user for row in batch], "item_ids": [row.items for row in batch]}
        batches.append(pa.RecordBatch.from_pydict(values, SEQUENCE_FEATURES.arrow_schema))
        if timed:
            times += [_times_of(row) for row in batch]
    if not batches:
        raise ValueError(f"{name} is empty: there are no sequences.")
    sequences = Dataset(InMemoryTable(pa.Table.from_batches(batches)), DatasetInfo(features=SEQUENCE_FEATURES))
    return sequences.add_column("timestamps", times) if timed else sequences


def _checked(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with their ids as text."""
    first: dict[str, str] = {}
    for row in map(with_text_ids, rows):
        if not row.items:
            raise ValueError(f"{row.place}: user {row.user!r} has no items")
        if row.user in first:
            raise ValueError(f"{row.place}: user {row.user!r} is already in {first[row.user]}")
        first[row.user] = row.place
        yield row


def _times_of(row: Row) -> list[Any]:
    if row.times is None or len(row.times) != len(row.items):
        raise ValueError(f"{row.place}: user {row.user!r} does not have one time for each item.")
    return row.times


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
