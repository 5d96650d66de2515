"""Leave-one-out: the last item of a user is the test target, the one before it the validation target."""

from datasets import Dataset, DatasetDict
from transformers.utils import logging

logger = logging.get_logger(__name__)

#: A user needs one item for each of training, validation and test.
MIN_ITEMS = 3


def leave_one_out(sequences: Dataset) -> DatasetDict:
    """Split each user's sequence at its end.

    Rows stay sequences: in ``validation`` and ``test`` the last item is the target and all before it the history, so
    a test history holds the validation target. Users with fewer than three items only train; their number is logged.

    For a user with the items ``a b c d``: ``train`` has ``a b``, ``validation`` ``a b c``, ``test`` ``a b c d``.

    This protocol leaks the future: one user's training items may be younger than another's test target.

    Args:
        sequences: One row a user, with ``item_ids`` and, if it has them, ``timestamps``.

    Returns:
        ``train``, ``validation`` and ``test``.
    """
    lengths = [len(items) for items in sequences["item_ids"]]
    evaluated = [row for row, length in enumerate(lengths) if length >= MIN_ITEMS]
    if short := len(lengths) - len(evaluated):
        logger.warning(f"{short} of {len(lengths)} users have fewer than {MIN_ITEMS} items: they only train.")
    return DatasetDict(
        train=_drop_last(sequences, 2, keep_short=True),
        validation=_drop_last(sequences.select(evaluated), 1),
        test=sequences.select(evaluated),
    )


def _drop_last(sequences: Dataset, count: int, *, keep_short: bool = False) -> Dataset:
    lists = [name for name in ("item_ids", "timestamps") if name in sequences.column_names]

    def shorten(batch: dict) -> dict:
        return {
            name: [
                values if keep_short and len(values) < MIN_ITEMS else values[: len(values) - count]
                for values in batch[name]
            ]
            for name in lists
        }

    return sequences.map(shorten, batched=True, keep_in_memory=True, load_from_cache_file=False)
