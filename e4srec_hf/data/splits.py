"""Leave-one-out: the last item of a user is the test target, the one before it the validation target.

Other splits are made from raw logs, where the times are (`e4srec_hf.preparation`); here is what they are called.
"""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, DatasetDict
from transformers.utils import logging

logger = logging.get_logger(__name__)

#: A user needs one item for each of training, validation and test.
MIN_ITEMS = 3
#: Columns with a value for each item.
LISTS = ("item_ids", "timestamps")


#: What [`describe_split`] takes for the split of this module.
LEAVE_ONE_OUT: dict[str, Any] = {"kind": "leave_one_out"}


def describe_split(split: Mapping[str, Any]) -> str:
    """What the targets of a split are, in two sentences for a card.

    Args:
        split: ``kind`` (``"leave_one_out"``, ``"time"`` or ``"ratio"``) and, for the last two, ``targets`` and
            ``validation_from`` and ``test_from``, or ``validation_share`` and ``test_share``.
    """
    if split["kind"] == "leave_one_out":
        return (
            "Leave-one-out: the last item of each user is the test target, the one before it the validation target. "
            "It lets a model train on events that are younger than another user's test target: figures measure "
            "ranking, not forecasting."
        )
    which = {
        "last": "a user's last item of a period is its target",
        "first": "a user's first item of a period is its target",
        "all": "every item of a period is a target",
    }[split["targets"]]
    if split["kind"] == "time":
        return (
            f"Split at points in time: validation from {split['validation_from']}, test from {split['test_from']}; "
            f"{which}. Nothing that is trained on is younger than a target."
        )
    return (
        f"Split by ratio: of each user's interactions the last {split['test_share']:.0%} are for test, the "
        f"{split['validation_share']:.0%} before them for validation; {which}. It lets a model train on events that "
        "are younger than another user's test target: figures measure ranking, not forecasting."
    )


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


def cut_into_segments(sequences: Dataset, max_history: int) -> Dataset:
    """Cut long training sequences so that each of their items is a target exactly once.

    [`SequenceCollator`] makes targets of the last ``max_history`` items of a row, as the paper does; those before them
    would only be read. A sequence of more items is cut from its end into rows of ``max_history + 1``, each beginning
    with the item that the row before it ends with, and a first row of what is left. A target's history is what stands
    before it in its row: just behind a cut it is shorter than the model would see when it recommends.

    With ``max_history`` 3, ``a b c d e f g h`` becomes ``a b``, ``b c d e`` and ``e f g h``: targets ``a b``, ``c d e``
    and ``f g h``. Where a training shuffles histories, it shuffles rows; in such an epoch an item of two rows may be a
    target twice, and another not at all.

    Args:
        sequences: Rows with ``item_ids`` and, if it has them, ``timestamps``.
        max_history: As the model's.

    Returns:
        As many rows a user as it takes, in time order; other columns are repeated.
    """

    def bounds(length: int) -> list[tuple[int, int]]:
        ends = range(length, max_history, -max_history)
        rest = length - len(ends) * max_history
        return [*([(0, rest)] if rest else []), *((end - max_history - 1, end) for end in reversed(ends))]

    def cut(batch: dict) -> dict:
        pieces = [(row, *span) for row, items in enumerate(batch["item_ids"]) for span in bounds(len(items))]
        return {
            name: [values[row][start:end] if name in LISTS else values[row] for row, start, end in pieces]
            for name, values in batch.items()
        }

    return sequences.map(cut, batched=True, keep_in_memory=True, load_from_cache_file=False)


def _drop_last(sequences: Dataset, count: int, *, keep_short: bool = False) -> Dataset:
    lists = [name for name in LISTS if name in sequences.column_names]

    def shorten(batch: dict) -> dict:
        return {
            name: [
                values if keep_short and len(values) < MIN_ITEMS else values[: len(values) - count]
                for values in batch[name]
            ]
            for name in lists
        }

    return sequences.map(shorten, batched=True, keep_in_memory=True, load_from_cache_file=False)
