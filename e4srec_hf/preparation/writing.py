"""Write chunks of sequences into the Parquet files of a prepared data set, and count them."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.prepared import ITEMS_NAME, SEQUENCES_NAME
from ..data.prepared_checks import SPLITS
from ..data.splits import MIN_ITEMS
from .chunks import CHUNK, Chunk
from .options import PreparationOptions
from .splitting import Cuts, Rows, split_chunk, whole

SECOND = 1_000_000
DAY = 86_400 * SECOND
#: Users and times rarely repeat, so a dictionary would only cost time; nobody filters by ranges of ids.
PARQUET: dict[str, Any] = {
    "use_dictionary": ["item_ids.list.element"],
    "column_encoding": {"user_id": "PLAIN", "timestamps.list.element": "DELTA_BINARY_PACKED"},
    "write_statistics": False,
}


@dataclass
class Counts:
    """Counts taken while sequences are written.

    Attributes:
        users: Number of sequences.
        interactions: Number of interactions.
        repeats: Interactions with an item that the user has interacted with before.
        lengths: Sequence length to number of users.
        of_items: ``(codes,)`` interactions of each item.
        trained: ``(codes,)`` whether an item is in ``train``.
        days: Day since 1970 to number of interactions; empty without times.
        first_time: Time of the first interaction, in microseconds; ``None`` without times.
        last_time: Time of the last interaction.
        splits: Rows of each split.
        short: Users without a test target.
        in_ties: Rows of ``test`` whose target has the same time as another item of the user.
    """

    of_items: NDArray[np.int64]
    trained: NDArray[np.bool_]
    users: int = 0
    interactions: int = 0
    repeats: int = 0
    short: int = 0
    in_ties: int = 0
    first_time: int | None = None
    last_time: int | None = None
    days: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)


class SequenceWriter:
    """Writes sequences, splits and the catalogue, whose items are in the order of their first appearance.

    Args:
        stage: The folder to write to.
        options: How to split.
        cuts: Start times of validation and test, for a split by time.
        items: Item ids by code; null for the code of a dropped item.
        has_times: Whether the interactions have times, or only an order.
    """

    def __init__(
        self, stage: Path, options: PreparationOptions, cuts: Cuts | None, items: pa.Array, has_times: bool
    ) -> None:
        self.stage, self.options, self.cuts, self.items, self.has_times = stage, options, cuts, items, has_times
        schema = [("user_id", pa.string()), ("item_ids", pa.list_(pa.string()))]
        schema += [("timestamps", pa.list_(pa.int64()))] if has_times else []
        (stage / options.split).mkdir()
        self.paths = {split: stage / options.split / f"{split}.parquet" for split in SPLITS}
        self.paths[""] = stage / SEQUENCES_NAME
        # if every user has a test row, these are the whole sequences: copy that file
        self.copied = ["test"] if options.split == "leave_one_out" and options.user_core >= MIN_ITEMS else []
        self.writers = {
            name: pq.ParquetWriter(path, pa.schema(schema), **PARQUET)
            for name, path in self.paths.items()
            if name not in self.copied
        }
        self.pool = ThreadPoolExecutor(os.cpu_count())  # Arrow and NumPy release the GIL
        self.digest = hashlib.sha256()
        self.literals = json_literals(items)
        self.first_seen = np.full(len(items), np.iinfo(np.int64).max)
        zeros = np.zeros(len(items), np.int64)
        self.counts = Counts(zeros, zeros.astype(bool))

    def write(self, chunk: Chunk) -> None:
        """Write the sequences of some users and their splits."""
        splits = split_chunk(chunk, self.options, self.cuts)
        rows = {"": whole(chunk), **splits}
        jobs = [self.pool.submit(self._write_rows, name, chunk, rows[name]) for name in self.writers]
        jobs += [self.pool.submit(self._hash, chunk), self.pool.submit(self._count, chunk, splits)]
        for job in jobs:
            job.result()

    def close(self) -> None:
        """Finish the files."""
        self.pool.shutdown()
        for writer in self.writers.values():
            writer.close()
        for split in self.copied:
            shutil.copyfile(self.paths[""], self.paths[split])

    def write_items(self, titles: Mapping[str, str | None]) -> int:
        """Write the catalogue; return the number of items with a title."""
        seen = np.flatnonzero(self.counts.of_items)
        names = self.items.take(pa.array(seen[np.argsort(self.first_seen[seen])]))
        found = pa.array([titles.get(name) for name in names.to_pylist()], pa.string())
        pq.write_table(pa.table({"item_id": names, "title": found}), self.stage / ITEMS_NAME)
        return len(found) - found.null_count

    def _write_rows(self, name: str, chunk: Chunk, rows: Rows) -> None:
        for piece in rows.pieces(CHUNK):
            self.writers[name].write_batch(self._batch(chunk, piece))

    def _batch(self, chunk: Chunk, rows: Rows) -> pa.RecordBatch:
        lengths = rows.ends - rows.starts
        offsets = np.append(0, np.cumsum(lengths))
        places = np.repeat(rows.starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        bounds = pa.array(offsets.astype(np.int32))
        columns = {
            "user_id": chunk.users.take(pa.array(rows.users)),
            "item_ids": pa.ListArray.from_arrays(bounds, self.items.take(pa.array(chunk.items[places]))),
        }
        if self.has_times:
            columns["timestamps"] = pa.ListArray.from_arrays(bounds, pa.array(chunk.times[places] // SECOND))
        return pa.record_batch(columns)

    def _hash(self, chunk: Chunk) -> None:
        """Update the hash of `sequences_sha256`, without one Python object per interaction."""
        bounds = pa.array(chunk.offsets.astype(np.int32))
        items = pc.binary_join(pa.ListArray.from_arrays(bounds, self.literals.take(pa.array(chunk.items))), ", ")
        lines = pc.binary_join_element_wise("[", json_literals(chunk.users), ", [", items, "]]\n", "")
        offsets = np.frombuffer(lines.buffers()[1], np.int32)
        self.digest.update(memoryview(lines.buffers()[2])[offsets[0] : offsets[len(lines)]])

    def _count(self, chunk: Chunk, splits: dict[str, Rows]) -> None:
        counts, size = self.counts, len(self.items)
        places = np.arange(counts.interactions, counts.interactions + len(chunk.items))
        first = np.full(size, np.iinfo(np.int64).max)
        first[chunk.items[::-1]] = places[::-1]  # reversed, so that the first place is assigned last
        np.minimum(self.first_seen, first, out=self.first_seen)
        counts.users += len(chunk.users)
        counts.interactions += len(chunk.items)
        counts.repeats += chunk.repeats() if self.options.repeats in ("keep", "distinct") else 0
        counts.lengths.update(_frequencies(chunk.lengths))
        counts.of_items += np.bincount(chunk.items, minlength=size)
        train, test = splits["train"], splits["test"]
        in_train = np.zeros(len(chunk.items) + 1, np.int64)
        np.add.at(in_train, train.starts, 1)
        np.add.at(in_train, train.ends, -1)
        counts.trained[chunk.items[np.cumsum(in_train[:-1]) > 0]] = True
        counts.splits.update({name: len(rows) for name, rows in splits.items()})
        counts.short += len(chunk.users) - len(np.unique(test.users))
        if self.has_times:
            counts.in_ties += int(chunk.in_ties()[test.ends - 1].sum())
            counts.days.update(_frequencies(chunk.times // DAY))
            bounds = [int(chunk.times.min()), int(chunk.times.max())]
            bounds += [time for time in (counts.first_time, counts.last_time) if time is not None]
            counts.first_time, counts.last_time = min(bounds), max(bounds)


def _frequencies(values: NDArray[np.int64]) -> dict[int, int]:
    ordered = np.sort(values)
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    return dict(zip(ordered[starts].tolist(), np.diff(starts, append=len(ordered)).tolist(), strict=True))


def json_literals(texts: pa.Array) -> pa.Array:
    """Each text as written by `json.dumps` with ``ensure_ascii=False``; null stays null."""
    quoted = pc.binary_join_element_wise('"', texts, '"', "")
    escaped = pc.fill_null(pc.match_substring_regex(texts, r'["\\\x00-\x1f]'), False)
    if not pc.any(escaped, min_count=0).as_py():
        return quoted
    literals = [json.dumps(text, ensure_ascii=False) for text in texts.filter(escaped).to_pylist()]
    return pc.replace_with_mask(quoted, escaped, pa.array(literals, pa.string()))


def summary(counts: Counts) -> dict[str, Any]:
    """Statistics of the written data set."""
    items = int((counts.of_items > 0).sum())
    return {
        "users": counts.users,
        "items": items,
        "interactions": counts.interactions,
        "density": (counts.interactions - counts.repeats) / (counts.users * items),
        "mean_history": counts.interactions / counts.users,
        "longest_history": max(counts.lengths),
        "repeats": counts.repeats / counts.interactions,
        "splits": {split: counts.splits[split] for split in SPLITS},
        "users_without_test_target": counts.short,
        "items_not_in_train": items - int(counts.trained.sum()),
        "test_targets_in_ties": counts.in_ties / counts.splits["test"]
        if counts.days and counts.splits["test"]
        else None,
        "first_time": None if counts.first_time is None else counts.first_time // SECOND,
        "last_time": None if counts.last_time is None else counts.last_time // SECOND,
    }
