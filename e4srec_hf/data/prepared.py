"""A prepared data set, in a folder or on the Hub: its files, its facts, its splits and its items."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, load_dataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from ..files import read_json
from .item_ids import as_ids, check_type_of_ids
from .prepared_checks import WAY_OUT, check_facts
from .rows import Columns, check_columns
from .sequences import SEQUENCE_FEATURES

SEQUENCES_NAME = "sequences.parquet"
ITEMS_NAME = "items.parquet"
#: Name and sizes of the data, for its card.
FACTS_NAME = "dataset.json"
#: Invalid records of the raw logs, as they were. They are not pushed.
REJECTED_NAME = "rejected.jsonl"
#: A picture of the data, if it was prepared from raw logs.
PICTURE_NAME = "preparation.png"


def load_dataset_facts(source: str | os.PathLike[str], **hub_arguments: Any) -> dict[str, Any]:
    """The content of ``dataset.json`` of a prepared data set; empty if `source` is not one.

    Args:
        source: A folder or a Hub id.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Raises:
        ValueError: If there is a ``dataset.json`` that is not one of a prepared data set.
    """
    try:
        file = _find_file(source, FACTS_NAME, **hub_arguments)
    except RepositoryNotFoundError:
        return {}
    if file is None:
        return {}
    facts = read_json(file)
    check_facts(facts, f"{os.fspath(source)}/{FACTS_NAME}")
    return facts


def load_split(
    source: str | os.PathLike[str], kind: str, split: str, *, streaming: bool = False, **hub_arguments: Any
) -> Any:
    """A split of a prepared data set, or its whole sequences.

    Args:
        source: A folder or a Hub id.
        kind: ``kind`` of the split in ``dataset.json``; ``""`` for the whole sequences.
        split: ``train``, ``validation`` or ``test``; of the whole sequences ``train``.
        streaming: Give an iterable data set that reads as it goes, instead of one in memory-mapped files.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Returns:
        A `Dataset`, or an `IterableDataset`.
    """
    if not Path(source).is_dir():
        name: str | os.PathLike[str] = source
        rows = load_dataset(os.fspath(source), kind or "sequences", split=split, streaming=streaming, **hub_arguments)
    else:
        name = Path(source, kind, f"{split}.parquet") if kind else Path(source, SEQUENCES_NAME)
        rows = load_dataset("parquet", data_files={split: str(name)}, split=split, streaming=streaming)
    return _with_text_ids(rows, os.fspath(name))


def _with_text_ids(rows: Any, name: str) -> Any:
    """Rows whose ids are text; the files of a data set that was prepared elsewhere may have whole numbers.

    Nothing is read: only the types of the columns count, so that rows that are streamed stay so.
    """
    features = rows.features
    check_columns(features.arrow_schema, Columns(), name)
    wanted = {**features, **SEQUENCE_FEATURES}
    return rows if wanted == features else rows.cast(Features(wanted))


def load_items(source: str | os.PathLike[str], **hub_arguments: Any) -> dict[str, str | None]:
    """The items of a prepared data set, in order, each with its title or ``None``.

    Args:
        source: As for `load_sequences`. Only prepared data sets list their items.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Returns:
        Empty if there are none.
    """
    file = _find_file(source, ITEMS_NAME, **hub_arguments)
    if file is None:
        return {}
    try:
        items = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet ({error}): {WAY_OUT}.") from error
    if not {"item_id", "title"} <= set(items.column_names):
        return {}
    try:
        check_type_of_ids(items.schema.field("item_id").type)
        ids = as_ids(items["item_id"].to_pylist())
    except ValueError as error:
        raise ValueError(f"{file}, column 'item_id': {error}") from error
    return dict(zip(ids, items["title"].to_pylist(), strict=True))


def _find_file(source: str | os.PathLike[str], name: str, **hub_arguments: Any) -> Path | None:
    """A file of a folder or of a data set on the Hub; ``None`` where there is none."""
    if Path(source).exists():
        file = Path(source, name)
        return file if file.is_file() else None
    try:
        return Path(hf_hub_download(os.fspath(source), name, repo_type="dataset", **hub_arguments))
    except EntryNotFoundError:  # also offline, of a data set that was read without it
        return None
