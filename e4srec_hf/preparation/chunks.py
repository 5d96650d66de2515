"""Interactions sorted by user and time, as chunks of whole users, one at a time in memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: Interactions of a chunk, or as many as one user has.
CHUNK = 1 << 18


@dataclass(frozen=True)
class Chunk:
    """The sequences of some users.

    Attributes:
        users: ``(users,)`` names.
        offsets: ``(users + 1,)`` where each user's interactions begin, and where the last one's end.
        items: ``(interactions,)`` codes of items.
        times: ``(interactions,)`` microseconds, never falling within a user.
    """

    users: pa.Array
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(users,)`` how many interactions each has."""
        return np.diff(self.offsets)

    def starts_of_users(self) -> NDArray[np.bool_]:
        """``(interactions,)`` whether a user begins here."""
        starts = np.zeros(len(self.items), bool)
        starts[self.offsets[:-1]] = True
        return starts

    def in_ties(self) -> NDArray[np.bool_]:
        """``(interactions,)`` whether the user has another item at the same time, so that the order is arbitrary."""
        begins = self.starts_of_users()
        begins[1:] |= self.times[1:] != self.times[:-1]
        starts = np.flatnonzero(begins)
        differ = np.minimum.reduceat(self.items, starts) != np.maximum.reduceat(self.items, starts)
        return np.repeat(differ, np.diff(starts, append=len(self.items)))

    def repeats(self) -> int:
        """How many interactions are with an item that their user had before."""
        users = np.repeat(np.arange(len(self.users)), self.lengths)
        pairs = np.sort(users << 32 | self.items)
        return int((pairs[1:] == pairs[:-1]).sum())


def read_chunks(connection: duckdb.DuckDBPyConnection, size: int = CHUNK) -> Iterator[Chunk]:
    """The interactions that are left, sorted by user and time; users in the order of their first appearance."""
    rows = _stream(
        connection,
        "SELECT u, i, time FROM interactions SEMI JOIN users ON users.code = u SEMI JOIN items ON items.code = i"
        " ORDER BY u, time, tie, position",
    )
    names = _Names(_stream(connection.cursor(), "SELECT name FROM users ORDER BY code"))
    waiting = pa.table({"u": pa.array([], pa.int32()), "i": pa.array([], pa.int32()), "time": pa.array([], pa.int64())})
    for batch in rows:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while end := _end_of_chunk(waiting, size):
            yield _chunk(waiting.slice(0, end), names)
            waiting = waiting.slice(end)
    if len(waiting):
        yield _chunk(waiting, names)


def _end_of_chunk(rows: pa.Table, size: int) -> int:
    """Where a chunk ends: at the last user who fits into ``size``, or behind a larger one; 0 while that is not known.

    It hangs on the rows alone and not on how they came in batches, so that the files are the same with any threads.
    """
    if len(rows) <= size:
        return 0
    users = rows["u"].to_numpy()
    end = int(np.searchsorted(users, users[size]))
    if end == 0:
        end = int(np.searchsorted(users, users[0], side="right"))
    return end if end < len(users) else 0


def ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks, the next one made while one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = pool.submit(next, chunks, None)
            yield chunk


def _stream(connection: duckdb.DuckDBPyConnection, query: str) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_stream(connection.sql(query))


def _chunk(rows: pa.Table, names: "_Names") -> Chunk:
    users = rows["u"].to_numpy()
    starts = np.flatnonzero(np.diff(users, prepend=users[0] - 1))
    return Chunk(names.take(len(starts)), np.append(starts, len(users)), rows["i"].to_numpy(), rows["time"].to_numpy())


class _Names:
    """A stream of names, given out as many as are asked for."""

    def __init__(self, stream: pa.RecordBatchReader) -> None:
        self.stream, self.left = stream, pa.array([], pa.string())

    def take(self, count: int) -> pa.Array:
        parts = [self.left]
        while sum(map(len, parts)) < count:
            parts.append(self.stream.read_next_batch().column(0).cast(pa.string()))
        joined = pa.concat_arrays(parts)
        self.left = joined.slice(count)
        return joined.slice(0, count)
