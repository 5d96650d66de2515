"""Whether a prepared data set is whole: its facts, the rows of its files, and the ids in them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from .item_ids import CONTROL_CHARACTERS, as_ids
from .rows import Columns, check_columns
from .titles import problem_of_title

SPLITS = ("train", "validation", "test")
#: What to do about files that were changed or lost.
WAY_OUT = "restore the file, or prepare the data set again"


def check_facts(facts: Mapping[str, Any], name: str) -> None:
    """Refuse a ``dataset.json`` that does not say what a prepared data set is.

    Args:
        facts: Its content.
        name: What the file is called in messages.

    Raises:
        ValueError: If an entry is missing or cannot be; the message names it.
    """
    _check_entries(facts, {"users": 1, "items": 1, "interactions": 1}, name)
    if not isinstance(facts.get("sha256"), str):
        raise ValueError(f"{name}: 'sha256' is {_shown(facts, 'sha256')}; expected a text: {WAY_OUT}.")
    splits, split = facts.get("splits"), facts.get("split", {"kind": "leave_one_out"})
    if not isinstance(splits, Mapping):
        raise ValueError(f"{name}: 'splits' is {_shown(facts, 'splits')}; expected rows by split: {WAY_OUT}.")
    _check_entries(splits, {"train": 1, "validation": 0, "test": 0}, f"{name}, 'splits'")
    kind = split.get("kind") if isinstance(split, Mapping) else None
    if not isinstance(kind, str) or not re.fullmatch(r"\w+", kind):
        raise ValueError(
            f'{name}: \'split\' is {_shown(facts, "split")}; expected an object like {{"kind": "leave_one_out"}}, '
            f"whose kind is the name of a folder beside this file: {WAY_OUT}."
        )


def check_files(folder: Path, facts: Mapping[str, Any], sequences_name: str) -> None:
    """Refuse a folder whose files do not have the rows that its facts say; only their metadata is read.

    Args:
        folder: The folder of a prepared data set.
        facts: Its ``dataset.json``, checked.
        sequences_name: The file of the whole sequences.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If it is no Parquet file, has other columns, or another number of rows.
    """
    kind = facts.get("split", {"kind": "leave_one_out"})["kind"]
    expected = {folder / kind / f"{split}.parquet": facts["splits"][split] for split in SPLITS}
    expected = {path: rows for path, rows in expected.items() if rows}
    expected[folder / sequences_name] = facts["users"]
    for path, rows in expected.items():
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {WAY_OUT}.")
        try:
            with pq.ParquetFile(path) as file:
                check_columns(file.schema_arrow, Columns(), str(path))
                found = file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} cannot be read as Parquet ({error}): {WAY_OUT}.") from error
        if found != rows:
            raise ValueError(f"{path} has {found:,} rows, but dataset.json says {rows:,}: {WAY_OUT}.")


def check_items(items: Mapping[str, Any], facts: Mapping[str, Any], name: str) -> None:
    """Refuse a catalogue of another size than the facts say, or with a title that is none."""
    if len(items) != facts["items"]:
        raise ValueError(f"{name} has {len(items):,} items, but dataset.json says {facts['items']:,}: {WAY_OUT}.")
    for item, title in items.items():
        if title is not None and (problem := problem_of_title(title)):
            raise ValueError(f"{name}: the title of {item[:60]!r} {problem}: {WAY_OUT}.")


def check_rows(rows: Dataset, items: pa.Array, name: str) -> None:
    """Refuse rows with users that are no ids, without items, or with items that are not in the catalogue.

    Args:
        rows: Rows whose ids are text.
        items: The catalogue, checked.
        name: What the rows are called in messages.

    Raises:
        ValueError: The message says which id, and why.
    """
    table = rows.data.table
    try:
        for users in table["user_id"].chunks:
            as_ids(users.filter(_are_no_ids(users)).to_pylist())
        for lists in table["item_ids"].chunks:
            if pc.any(pc.less(pc.fill_null(pc.list_value_length(lists), 0), 1)).as_py():
                raise ValueError("a user has no items")
            found = pc.unique(lists.flatten())
            unknown = as_ids(found.filter(pc.invert(pc.is_in(found, items))).to_pylist())
            if unknown:
                raise ValueError(f"the item {unknown[0]!r} is not in items.parquet")
    except ValueError as error:
        raise ValueError(f"{name}: {error}: {WAY_OUT}.") from error


def _check_entries(entries: Mapping[str, Any], least: Mapping[str, int], name: str) -> None:
    for entry, smallest in least.items():
        if type(entries.get(entry)) is not int or entries[entry] < smallest:
            raise ValueError(
                f"{name}: {entry!r} is {_shown(entries, entry)}; expected a whole number, at least {smallest}: "
                f"{WAY_OUT}."
            )


def _shown(entries: Mapping[str, Any], entry: str) -> str:
    return repr(entries[entry])[:60] if entry in entries else "missing"


def _are_no_ids(ids: pa.Array) -> pa.Array:
    blank = pc.equal(pc.utf8_trim_whitespace(ids), "")
    return pc.fill_null(pc.or_(blank, pc.match_substring_regex(ids, CONTROL_CHARACTERS)), True)
