"""Splits of whole sequences, chunk by chunk: rows whose last item is the target, or that are trained on."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.splits import MIN_ITEMS
from .chunks import Chunk
from .options import PreparationOptions

#: When validation and test begin, in microseconds.
Cuts = tuple[int, int]


@dataclass(frozen=True)
class Rows:
    """Pieces of a chunk.

    Attributes:
        users: ``(rows,)`` place of the user in the chunk.
        starts: ``(rows,)`` place of the first interaction.
        ends: ``(rows,)`` place behind the last interaction.
    """

    users: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def pieces(self, size: int) -> Iterator["Rows"]:
        """The same rows, so many interactions at a time or as many as one row has."""
        groups = np.cumsum(self.ends - self.starts) // size
        bounds = [0, *(np.flatnonzero(np.diff(groups)) + 1), len(self)]
        for begin, end in itertools.pairwise(bounds):
            if end > begin:
                yield Rows(self.users[begin:end], self.starts[begin:end], self.ends[begin:end])


def whole(chunk: Chunk) -> Rows:
    """A row a user, with everything."""
    return Rows(np.arange(len(chunk.users)), chunk.offsets[:-1], chunk.offsets[1:])


def split_chunk(chunk: Chunk, options: PreparationOptions, cuts: Cuts | None) -> dict[str, Rows]:
    """Cut the sequences into ``train``, ``validation`` and ``test``.

    A row of ``validation`` or ``test`` has at least one interaction before its target. A row of ``train`` has those
    that are neither in the validation nor in the test period.

    Args:
        chunk: Whole sequences.
        options: ``split``, ``targets`` and the shares.
        cuts: For a split by time.
    """
    validation, test = _periods(chunk, options, cuts)
    targets = "last" if options.split == "leave_one_out" else options.targets
    return {
        "train": _rows(chunk, validation),
        "validation": _targets(chunk, validation, test, targets),
        "test": _targets(chunk, test, chunk.lengths, targets),
    }


def _periods(
    chunk: Chunk, options: PreparationOptions, cuts: Cuts | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(users,)`` twice: how many interactions come before validation, and how many before test."""
    lengths = chunk.lengths
    if options.split == "time":
        if cuts is None:
            raise ValueError("A split by time needs the cuts.")
        before = [np.add.reduceat((chunk.times < cut).astype(np.int64), chunk.offsets[:-1]) for cut in cuts]
        return before[0], before[1]
    evaluated = lengths >= MIN_ITEMS
    if options.split == "leave_one_out":
        return np.where(evaluated, lengths - 2, lengths), np.where(evaluated, lengths - 1, lengths)
    tested = np.clip(_share(lengths, options.test_share), 1, np.maximum(lengths - 2, 1))
    validated = np.clip(_share(lengths, options.validation_share), 1, np.maximum(lengths - tested - 1, 1))
    return (
        np.where(evaluated, lengths - tested - validated, lengths),
        np.where(evaluated, lengths - tested, lengths),
    )


def _share(lengths: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    return np.floor(lengths * share + 1e-9).astype(np.int64)  # 0.29 of 100 is 29


def _rows(chunk: Chunk, counts: NDArray[np.int64]) -> Rows:
    """A row of each user's first interactions, where there are any."""
    users = np.flatnonzero(counts)
    return Rows(users, chunk.offsets[users], chunk.offsets[users] + counts[users])


def _targets(chunk: Chunk, begin: NDArray[np.int64], end: NDArray[np.int64], which: str) -> Rows:
    """Rows that end with a target of the period from ``begin`` to ``end`` and have something before it."""
    begin = np.maximum(begin, 1)
    if which == "all":
        counts = np.maximum(end - begin, 0)
        users = np.repeat(np.arange(len(chunk.users)), counts)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        behind = begin[users] + place + 1
    else:
        users = np.flatnonzero(end > begin)
        behind = (end if which == "last" else begin + 1)[users]
    return Rows(users, chunk.offsets[users], chunk.offsets[users] + behind)
