"""Leave-one-out: the last item of a user is the test target, the one before it the validation target.

`e4srec_hf.preparation` makes the other splits, which need the times of raw logs; [`describe_split`] describes them all.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from transformers.utils import logging

logger = logging.get_logger(__name__)

#: A user needs one item for each of training, validation and test.
MIN_ITEMS = 3
#: Columns with a value for each item.
LISTS = ("item_ids", "timestamps")
#: Leave-one-out as [`describe_split`] takes it.
LEAVE_ONE_OUT: dict[str, Any] = {"kind": "leave_one_out"}


def describe_split(split: Mapping[str, Any]) -> str:
    """Describe the targets of a split in two sentences for a card.

    Args:
        split: ``kind`` (``"leave_one_out"``, ``"time"`` or ``"ratio"``) and, for the last two, ``targets`` and
            ``validation_from`` and ``test_from``, or ``validation_share`` and ``test_share``.
    """
    if split["kind"] == "leave_one_out":
        return (
            "Leave-one-out: the last item of each user is the test target, the one before it the validation target. "
            "The model may train on events that are later than another user's test target: figures measure ranking, "
            "not forecasting."
        )
    which = {
        "last": "a user's last item in a period is the target",
        "first": "a user's first item in a period is the target",
        "all": "every item in a period is a target",
    }[split["targets"]]
    if split["kind"] == "time":
        return (
            f"Split at points in time: validation from {split['validation_from']}, test from {split['test_from']}; "
            f"{which}. No training event is later than a target."
        )
    return (
        f"Split by ratio: the last {split['test_share']:.0%} of each user's interactions are for test, the "
        f"{split['validation_share']:.0%} before them for validation; {which}. The model may train on events that are "
        "later than another user's test target: figures measure ranking, not forecasting."
    )


def leave_one_out_ends(lengths: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Leave-one-out on sequence lengths: each row is the beginning of a sequence, up to and including its target.

    Args:
        lengths: ``(users,)`` items in each sequence.

    Returns:
        For ``train``, ``validation`` and ``test``: ``(users,)`` items in the user's row, 0 if the user has no row.
        Users with fewer than ``MIN_ITEMS`` items only train, on all of them.
    """
    evaluated = lengths >= MIN_ITEMS
    return {
        "train": np.where(evaluated, lengths - 2, lengths),
        "validation": np.where(evaluated, lengths - 1, 0),
        "test": np.where(evaluated, lengths, 0),
    }


def leave_one_out(sequences: Dataset) -> DatasetDict:
    """Split each user's sequence at its end, by [`leave_one_out_ends`].

    Rows stay sequences: in ``validation`` and ``test`` the last item is the target and the items before it are the
    history, so a test history includes the validation target. The number of users who only train is logged.

    For a user with the items ``a b c d``: ``train`` has ``a b``, ``validation`` ``a b c``, ``test`` ``a b c d``.

    This protocol leaks the future: one user's training items may be later than another's test target.

    Args:
        sequences: One row per user, with ``item_ids`` and optionally ``timestamps``.

    Returns:
        ``train``, ``validation`` and ``test``.
    """
    ends = leave_one_out_ends(np.fromiter(map(len, sequences["item_ids"]), np.int64))
    evaluated = np.flatnonzero(ends["test"])
    if short := len(sequences) - len(evaluated):
        logger.warning(f"{short} of {len(sequences)} users have fewer than {MIN_ITEMS} items: they only train.")
    test = sequences.select(evaluated.tolist())
    return DatasetDict(
        train=_first_items(sequences, ends["train"]),
        validation=_first_items(test, ends["validation"][evaluated]),
        test=test,
    )


def cut_into_segments(sequences: Dataset, max_history: int) -> Dataset:
    """Cut long training sequences so that each of their items is a target exactly once.

    [`SequenceCollator`] uses the last ``max_history`` items of a row as targets, as the paper does; earlier items would
    never be targets. A longer sequence is cut from its end into rows of ``max_history + 1`` items, each beginning with
    the last item of the row before it; the first row has the remaining items. A target's history is the items before
    it in its row, so just after a cut it is shorter than the history the model reads when it recommends.

    With ``max_history`` 3, ``a b c d e f g h`` becomes ``a b``, ``b c d e`` and ``e f g h``: targets ``a b``, ``c d e``
    and ``f g h``. If training shuffles histories, it shuffles rows; an item in two rows may then be a target twice in
    an epoch, and another item not at all.

    Args:
        sequences: Rows with ``item_ids`` and optionally ``timestamps``.
        max_history: The model's ``max_history``.

    Returns:
        One or more rows per user, in time order; other columns are repeated.
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


def _first_items(sequences: Dataset, counts: NDArray[np.int64]) -> Dataset:
    """Keep the first ``counts`` items of each row."""
    lists = [name for name in LISTS if name in sequences.column_names]

    def shorten(batch: dict, rows: list[int]) -> dict:
        return {
            name: [values[:count] for values, count in zip(batch[name], counts[rows], strict=True)] for name in lists
        }

    return sequences.map(shorten, batched=True, with_indices=True, keep_in_memory=True, load_from_cache_file=False)
