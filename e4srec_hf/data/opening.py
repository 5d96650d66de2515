"""Opening any data set to train on: sequences, splits and catalogue, and a description of what was found."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict

from ..paths import check_exists
from .demo import make_demo_world
from .description import describe_data, is_hub_id, without_folders
from .prepared import ITEMS_NAME, SEQUENCES_NAME, load_dataset_facts, load_items, load_split
from .prepared_checks import check_files, check_items, check_rows
from .raw_logs import check_not_raw
from .sequences import SEQUENCE_FEATURES, TABLE_READERS, catalogue_of, load_sequences, name_of
from .splits import LEAVE_ONE_OUT, leave_one_out
from .streaming import StreamedSequences


@dataclass
class TrainingData:
    """A data set to train on.

    Attributes:
        kind: What kind of data set it is, in words.
        facts: For a model card, as `describe_data` gives them, with ``split``.
        train: Sequences to train on: a `Dataset`, or [`StreamedSequences`].
        validation: Rows whose last item is the target.
        test: As ``validation``.
        items: The catalogue.
        titles: Item to title, for items that have one.
        load_sequences: Returns the whole sequences.
    """

    kind: str
    facts: dict[str, Any]
    train: Any
    validation: Dataset
    test: Dataset
    items: list[str]
    titles: dict[str, str]
    load_sequences: Callable[[], Dataset]

    @cached_property
    def sequences(self) -> Dataset:
        """The whole sequences, one row a user."""
        return self.load_sequences()

    @property
    def splits(self) -> dict[str, Any]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def summary(self) -> str:
        """Kind and sizes in one line."""
        return f"{self.kind}; {self.facts['users']:,} users, {len(self.items):,} items, {len(self.test):,} test targets"


def load_training_data(
    source: str | os.PathLike[str], *, streaming: bool = False, seed: int = 0, **columns: str
) -> TrainingData:
    """Open a data set by what it is: a prepared one has its own splits, sequences are split leave-one-out.

    Args:
        source: A folder of `prepare` or `save_dataset`, a data set on the Hub, prepared or not, or what
            `load_sequences` takes: reference text, Parquet, JSON lines, a folder saved by `datasets`. ``"demo"`` is a
            made-up world.
        streaming: Read ``train`` as it goes, from Parquet, instead of mapping it; for prepared data sets.
        seed: Seed of the order of streamed rows.
        columns: Names of columns of a table, see `sequences_from_table`.

    Raises:
        ValueError: If it cannot be read, or cannot be streamed. For a raw log, the message has the command that
            prepares it.
        FileNotFoundError: If it does not exist.
    """
    name = name_of(source)
    if name == "demo":
        if streaming:
            raise ValueError("The demo cannot be streamed: it is not in a file.")
        world = make_demo_world()
        return from_sequences(world.sequences, name, "made-up readers and books", world.titles)
    check_exists(name)
    check_not_raw(Path(name))
    prepared = load_dataset_facts(name) if Path(name).is_dir() or is_hub_id(name) else {}
    if not prepared:
        if streaming:
            raise ValueError(f"{name} cannot be streamed: it is {_kind(name)}. Prepare it first (e4srec prepare).")
        return from_sequences(load_sequences(name, **columns), name, _kind(name))
    split = prepared.get("split", LEAVE_ONE_OUT)
    if Path(name).is_dir():
        check_files(Path(name), prepared, SEQUENCES_NAME)
    listed = load_items(name)
    check_items(listed, prepared, f"{name}/{ITEMS_NAME}")
    catalogue = pa.array(listed, pa.string())

    def load(kind: str, part: str) -> Dataset:
        if kind and not prepared["splits"][part]:  # `load_dataset` takes none that is empty
            return Dataset.from_dict({"user_id": [], "item_ids": []}, features=SEQUENCE_FEATURES)
        rows = load_split(name, kind, part)
        check_rows(rows, catalogue, f"{name}/{kind}/{part}.parquet" if kind else f"{name}/{SEQUENCES_NAME}")
        return rows

    if streaming:
        rows = load_split(name, split["kind"], "train", streaming=True)
        train: Any = StreamedSequences(rows, prepared["splits"]["train"], seed=seed)
    else:
        train = load(split["kind"], "train")
    facts = {key: prepared[key] for key in ("users", "items", "interactions", "sha256")}
    facts |= {"titles_from": prepared["titles_from"]} if prepared.get("titles_from") else {}
    return TrainingData(
        f"a prepared data set {'on the Hub' if is_hub_id(name) else 'in a folder'}, split {split['kind']}",
        {"name": without_folders(name), "hub_id": name if is_hub_id(name) else None, **facts, "split": split},
        train,
        load(split["kind"], "validation"),
        load(split["kind"], "test"),
        list(listed),
        {item: title for item, title in listed.items() if title is not None},
        lambda: load("", "train"),
    )


def from_sequences(sequences: Dataset, name: str, kind: str, titles: dict[str, str] | None = None) -> TrainingData:
    """Split sequences leave-one-out.

    Args:
        sequences: One row a user.
        name: What they are called: a path is cut to its last part.
        kind: What they were taken for.
        titles: Item to title; items that no sequence has are part of the catalogue too.
    """
    splits: DatasetDict = leave_one_out(sequences)
    items = list(dict.fromkeys([*(titles or {}), *catalogue_of(sequences)]))
    facts = {**describe_data(name, sequences, len(items)), "split": LEAVE_ONE_OUT}
    return TrainingData(
        kind, facts, splits["train"], splits["validation"], splits["test"], items, titles or {}, lambda: sequences
    )


def _kind(name: str) -> str:
    path = Path(name)
    if path.is_dir():
        return "a folder saved by datasets"
    if path.suffix in TABLE_READERS:
        return "a table of sequences"
    return (
        "a text file with one user a line"
        if path.is_file() or path.suffix == ".txt"
        else "a table of sequences on the Hub"
    )
