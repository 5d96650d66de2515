"""Histories as both models read them: which items count, in what order, and which of them are targets."""

import torch
from torch import Tensor

#: Ids of the special tokens; items start at :data:`FIRST_ITEM_ID`.
PAD_ID, UNK_ID, FIRST_ITEM_ID = 0, 1, 2
#: The label of a position where nothing is to be predicted.
IGNORE_INDEX = -100


def check_item_ids(ids: Tensor, vocab_size: int, name: str, *, ignore_index: int | None = None) -> None:
    """Refuse ids that are no rows of the item table.

    Args:
        ids: ``(batch, seq)`` item ids.
        vocab_size: Rows of the item table.
        name: What to call ``ids`` in the message.
        ignore_index: A value that is allowed besides.

    Raises:
        ValueError: If ``ids`` is not a matrix, or one of them is outside the vocabulary; it names the place.
    """
    if ids.dim() != 2:
        raise ValueError(f"{name} must have the shape (batch, seq), not {tuple(ids.shape)}")
    outside = (ids < 0) | (ids >= vocab_size)
    if ignore_index is not None:
        outside &= ids != ignore_index
    if outside.any():
        row, column = outside.nonzero()[0].tolist()
        raise ValueError(
            f"{name}[{row}, {column}] is {int(ids[row, column])}, outside the vocabulary of {vocab_size} item tokens "
            f"(0 to {vocab_size - 1}). Was it made with the item tokenizer of this model?"
        )


def known_items(input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Where a row holds an item that counts: not masked, and neither ``[PAD]`` nor ``[UNK]``.

    Args:
        input_ids: ``(batch, seq)`` item ids.
        attention_mask: ``(batch, seq)``, 0 where nothing is to be read; ``None`` reads everything.

    Returns:
        ``(batch, seq)`` booleans.
    """
    known = input_ids >= FIRST_ITEM_ID
    return known if attention_mask is None else known & attention_mask.bool()


def pack_right_padded(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move what is masked in to the front of each row, order kept, and cut the padding that all rows share.

    With the padding behind, position ``i`` of a row is its ``i``-th item whatever the batch looks like, and a causal
    model never sees the padding.

    Args:
        values: ``(batch, seq)`` or ``(batch, seq, dim)``.
        mask: ``(batch, seq)`` booleans.

    Returns:
        The packed values ``(batch, longest, …)`` and the lengths ``(batch,)``.
    """
    lengths = mask.sum(dim=1)
    longest = int(lengths.max()) if len(lengths) else 0
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (batch, longest)
    if values.dim() == 3:
        order = order.unsqueeze(-1).expand(-1, -1, values.shape[-1])
    return values.gather(1, order), lengths


def target_positions(input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the targets, row-major. Special tokens are never targets.

    Args:
        input_ids: ``(batch, seq)``.
        labels: ``(batch, seq)`` unshifted labels, -100 where nothing is to be predicted.

    Raises:
        ValueError: If the shapes differ.
    """
    if labels.shape != input_ids.shape:
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, but input_ids {tuple(input_ids.shape)}")
    rows, columns = (labels >= FIRST_ITEM_ID).nonzero(as_tuple=True)
    return rows, columns
