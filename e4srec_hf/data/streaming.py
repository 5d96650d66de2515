"""Training sequences that are read as training goes, for data sets larger than memory."""

from collections.abc import Iterator
from typing import Any

import datasets
import torch


class StreamedSequences(torch.utils.data.IterableDataset):
    """An iterable data set of sequences with a length, so that a `Trainer` knows what an epoch is.

    Rows come shuffled: the pieces of the files in an order drawn anew each epoch, and rows within a buffer. Workers of
    a data loader share the pieces, so each row comes once an epoch.

    Args:
        stream: Rows with ``item_ids``, as ``load_dataset(…, streaming=True)`` gives them.
        rows: How many there are.
        buffer_size: Rows that are held to draw from.
        seed: Of the order.
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
        """Draw another order from now on."""
        self.stream.set_epoch(epoch)
