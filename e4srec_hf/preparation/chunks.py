"""Interactions sorted by user and time, read in chunks of whole users with one chunk in memory at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: Interactions in a chunk; a chunk with a single user may have more.
CHUNK = 1 << 18


@dataclass(frozen=True)
class Chunk:
    """The sequences of some users.

    Attributes:
        users: ``(users,)`` user ids.
        offsets: ``(users + 1,)`` start of each user's interactions, and the end of the last user's.
        items: ``(interactions,)`` item codes.
        times: ``(interactions,)`` microseconds, in ascending order within a user.
    """

    users: pa.Array
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(users,)`` number of interactions of each user."""
        return np.diff(self.offsets)

    def starts_of_users(self) -> NDArray[np.bool_]:
        """``(interactions,)`` whether this is the first interaction of a user."""
        starts = np.zeros(len(self.items), bool)
        starts[self.offsets[:-1]] = True
        return starts

    def in_ties(self) -> NDArray[np.bool_]:
        """``(interactions,)`` whether the user has a different item at the same time, so their order is arbitrary."""
        begins = self.starts_of_users()
        begins[1:] |= self.times[1:] != self.times[:-1]
        starts = np.flatnonzero(begins)
        differ = np.minimum.reduceat(self.items, starts) != np.maximum.reduceat(self.items, starts)
        return np.repeat(differ, np.diff(starts, append=len(self.items)))

    def repeats(self) -> int:
        """Number of interactions with an item that the user has interacted with before."""
        users = np.repeat(np.arange(len(self.users)), self.lengths)
        pairs = np.sort(users << 32 | self.items)
        return int((pairs[1:] == pairs[:-1]).sum())


def read_chunks(connection: duckdb.DuckDBPyConnection, size: int = CHUNK) -> Iterator[Chunk]:
    """Read the remaining interactions, sorted by user and time; users in the order of their first appearance."""
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
    """End of the next chunk: the last whole user within ``size`` rows, or one larger user; 0 if more rows are needed.

    The result depends only on the rows, not on the batches they arrive in, so any number of threads gives the same
    files.
    """
    if len(rows) <= size:
        return 0
    users = rows["u"].to_numpy()
    end = int(np.searchsorted(users, users[size]))
    if end == 0:
        end = int(np.searchsorted(users, users[0], side="right"))
    return end if end < len(users) else 0


def ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield the same chunks, preparing the next one in the background."""
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
    """A stream of names, read as needed."""

    def __init__(self, stream: pa.RecordBatchReader) -> None:
        self.stream, self.left = stream, pa.array([], pa.string())

    def take(self, count: int) -> pa.Array:
        parts = [self.left]
        while sum(map(len, parts)) < count:
            parts.append(self.stream.read_next_batch().column(0).cast(pa.string()))
        joined = pa.concat_arrays(parts)
        self.left = joined.slice(count)
        return joined.slice(0, count)
