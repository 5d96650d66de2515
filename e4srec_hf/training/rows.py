"""The rows that a trainer reads: cut into segments, and with their lengths where batches are sorted by them."""

from typing import Any

from datasets import Dataset
from transformers import TrainingArguments

from ..data.splits import cut_into_segments
from ..data.streaming import StreamedSequences


def rows_to_train_on(rows: Any, args: TrainingArguments, max_history: int, *, all_targets: bool) -> Any:
    """Rows with ``item_ids`` as the trainer reads them; ``None`` stays ``None``.

    Raises:
        ValueError: If streamed rows are to be cut or sorted.
    """
    by_length = args.train_sampling_strategy in ("group_by_length", "batch_rebalance")
    if isinstance(rows, StreamedSequences) and (all_targets or by_length):
        raise ValueError("Streamed rows are not cut or sorted: leave out all_targets and train_sampling_strategy.")
    if isinstance(rows, Dataset) and all_targets:
        rows = cut_into_segments(rows, max_history)
    if isinstance(rows, Dataset) and by_length:
        lengths = [min(len(items), max_history + 1) for items in rows["item_ids"]]
        name = args.length_column_name
        rows = rows.remove_columns([column for column in rows.column_names if column == name]).add_column(name, lengths)
    return rows
