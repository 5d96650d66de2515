"""Training sequences streamed from disk, for data sets larger than memory."""

from collections.abc import Iterator
from typing import Any

import datasets
import torch


class StreamedSequences(torch.utils.data.IterableDataset):
    """An iterable data set of sequences with a length, from which `Trainer` computes the steps of an epoch.

    Rows are shuffled: the file shards are in a new random order each epoch, and rows are drawn from a buffer. The
    workers of a data loader divide the shards, so each row is read once per epoch.

    Args:
        stream: Rows with ``item_ids``, as returned by ``load_dataset(…, streaming=True)``.
        rows: Number of rows.
        buffer_size: Number of rows in the shuffle buffer.
        seed: Seed of the order.
    """

    def __init__(
        self, stream: datasets.IterableDataset, rows: int, *, buffer_size: int = 10_000, seed: int = 0
    ) -> None:
        self.rows = rows
        self.stream = stream.shuffle(seed=seed, buffer_size=buffer_size)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.stream)

    def __getitem__(self, column: str) -> Iterator[Any]:
        """A column, read from the beginning."""
        return (row[column] for row in self.stream)

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch from now on."""
        self.stream.set_epoch(epoch)
