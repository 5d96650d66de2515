"""Split whole sequences, chunk by chunk: each row is the beginning of a sequence, up to the target if evaluated."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.splits import MIN_ITEMS, leave_one_out_ends
from .chunks import Chunk
from .options import PreparationOptions

#: Start times of validation and test, in microseconds.
Cuts = tuple[int, int]


@dataclass(frozen=True)
class Rows:
    """Slices of a chunk.

    Attributes:
        users: ``(rows,)`` index of the user in the chunk.
        starts: ``(rows,)`` index of the first interaction.
        ends: ``(rows,)`` index after the last interaction.
    """

    users: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def pieces(self, size: int) -> Iterator["Rows"]:
        """Yield the same rows in groups of about ``size`` interactions; a row is never divided."""
        groups = np.cumsum(self.ends - self.starts) // size
        bounds = [0, *(np.flatnonzero(np.diff(groups)) + 1), len(self)]
        for begin, end in itertools.pairwise(bounds):
            if end > begin:
                yield Rows(self.users[begin:end], self.starts[begin:end], self.ends[begin:end])


def whole(chunk: Chunk) -> Rows:
    """One row per user, with all interactions."""
    return Rows(np.arange(len(chunk.users)), chunk.offsets[:-1], chunk.offsets[1:])


def split_chunk(chunk: Chunk, options: PreparationOptions, cuts: Cuts | None) -> dict[str, Rows]:
    """Cut the sequences into ``train``, ``validation`` and ``test``.

    A row of ``validation`` or ``test`` has at least one interaction before its target. A row of ``train`` has the
    interactions before the validation period.

    Args:
        chunk: Whole sequences.
        options: ``split``, ``targets`` and the shares.
        cuts: Start times of validation and test, for a split by time.
    """
    if options.split == "leave_one_out":
        return {split: _rows(chunk, counts) for split, counts in leave_one_out_ends(chunk.lengths).items()}
    validation, test = _periods(chunk, options, cuts)
    return {
        "train": _rows(chunk, validation),
        "validation": _targets(chunk, validation, test, options.targets),
        "test": _targets(chunk, test, chunk.lengths, options.targets),
    }


def _periods(
    chunk: Chunk, options: PreparationOptions, cuts: Cuts | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count each user's interactions before validation and before test: two arrays of shape ``(users,)``."""
    lengths = chunk.lengths
    if options.split == "time":
        if cuts is None:
            raise ValueError("A split by time needs cuts.")
        before = [np.add.reduceat((chunk.times < cut).astype(np.int64), chunk.offsets[:-1]) for cut in cuts]
        return before[0], before[1]
    evaluated = lengths >= MIN_ITEMS
    tested = np.clip(_share(lengths, options.test_share), 1, np.maximum(lengths - 2, 1))
    validated = np.clip(_share(lengths, options.validation_share), 1, np.maximum(lengths - tested - 1, 1))
    return (
        np.where(evaluated, lengths - tested - validated, lengths),
        np.where(evaluated, lengths - tested, lengths),
    )


def _share(lengths: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    return np.floor(lengths * share + 1e-9).astype(np.int64)  # rounding: 0.29 * 100 must give 29


def _rows(chunk: Chunk, counts: NDArray[np.int64]) -> Rows:
    """A row with the first ``counts`` interactions of each user; users with a count of 0 have no row."""
    users = np.flatnonzero(counts)
    return Rows(users, chunk.offsets[users], chunk.offsets[users] + counts[users])


def _targets(chunk: Chunk, begin: NDArray[np.int64], end: NDArray[np.int64], which: str) -> Rows:
    """Rows that end with a target between ``begin`` and ``end`` and have at least one interaction before it."""
    begin = np.maximum(begin, 1)
    if which == "all":
        targets = np.maximum(end - begin, 0)
        users = np.repeat(np.arange(len(chunk.users)), targets)
        place = np.arange(targets.sum()) - np.repeat(np.cumsum(targets) - targets, targets)
        counts = begin[users] + place + 1
    else:
        users = np.flatnonzero(end > begin)
        counts = (end if which == "last" else begin + 1)[users]
    return Rows(users, chunk.offsets[users], chunk.offsets[users] + counts)
