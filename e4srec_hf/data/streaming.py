"""Training sequences streamed from disk, for data sets larger than memory."""

from collections.abc import Iterator
from typing import Any

import datasets
import torch

#: Rows that are taken from a stream at a time.
ROWS_AT_A_TIME = 1000


class StreamedSequences(torch.utils.data.IterableDataset):
    """An iterable data set of sequences with a length, from which `Trainer` computes the steps of an epoch.

    Rows are shuffled: the file shards are in a new random order each epoch, and rows are drawn from a buffer. Each
    worker of a data loader, like each process, reads all rows and keeps those of its own steps: each row comes once an
    epoch, and the order depends neither on the number of workers nor on that of processes.

    Args:
        stream: Rows with ``item_ids``, as returned by ``load_dataset(…, streaming=True)``.
        rows: Number of rows.
        buffer_size: Number of rows in the shuffle buffer.
        seed: Seed of the order.

    Attributes:
        rows_a_step: Consecutive rows that go to the same worker: the batch size, times the number of processes.
    """

    def __init__(
        self, stream: datasets.IterableDataset, rows: int, *, buffer_size: int = 10_000, seed: int = 0
    ) -> None:
        self.rows, self.rows_a_step = rows, 1
        self.stream = stream.shuffle(seed=seed, buffer_size=buffer_size)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows of an epoch; in a worker of a data loader, its own.

        Raises:
            ValueError: If the files do not have as many rows as they should.
        """
        worker = torch.utils.data.get_worker_info()
        workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        found = 0
        # not row by row: then datasets would give a worker the rows of some files only
        for batch in self.stream.iter(ROWS_AT_A_TIME):
            for values in zip(*batch.values(), strict=True):
                if found < self.rows and found // self.rows_a_step % workers == own:
                    yield dict(zip(batch, values, strict=True))
                found += 1
        if found != self.rows:
            raise ValueError(
                f"The streamed files have {found:,} rows; {self.rows:,} were expected. Prepare them again."
            )

    def __getitem__(self, column: str) -> Iterator[Any]:
        """A column, read from the beginning."""
        return (row[column] for row in self.stream)

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch from now on."""
        self.stream.set_epoch(epoch)
