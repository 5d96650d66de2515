"""Histories as both models read them: which items count, which of them are targets, and what a target follows."""

from typing import NamedTuple

import torch
from torch import Tensor

#: Ids of the special tokens; items start at :data:`FIRST_ITEM_ID`.
PAD_ID, UNK_ID, FIRST_ITEM_ID = 0, 1, 2
#: The label of a position where nothing is to be predicted.
IGNORE_INDEX = -100


def check_item_ids(ids: Tensor, vocab_size: int, name: str, *, ignore_index: int = PAD_ID) -> None:
    """Raise a `ValueError` if ``(batch, seq)`` ids, called ``name``, are outside the vocabulary or no matrix."""
    if ids.dim() != 2:
        raise ValueError(f"{name} must have the shape (batch, seq), not {tuple(ids.shape)}")
    outside = (ids.clamp(0, vocab_size - 1) != ids) & (ids != ignore_index)
    if outside.any():
        row, column = outside.nonzero()[0].tolist()
        raise ValueError(
            f"{name}[{row}, {column}] is {int(ids[row, column])}, outside the vocabulary of {vocab_size} item tokens "
            f"(0 to {vocab_size - 1}). Was it made with the item tokenizer of this model?"
        )


def known_items(input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Where a row holds an item that counts, ``(batch, seq)``: not masked, and neither ``[PAD]`` nor ``[UNK]``."""
    known = input_ids >= FIRST_ITEM_ID
    return known if attention_mask is None else known & attention_mask.bool()


def pack_right_padded(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the ``(batch, seq)`` ids that count to the front of each row, in order, and cut the padding.

    Position ``i`` of a row is then its ``i``-th item in any batch, and a causal model never sees the padding. Returns
    the packed ids, ``(batch, longest)``, and the lengths, ``(batch,)``.
    """
    lengths = mask.sum(dim=1)
    longest = int(lengths.max()) if len(lengths) else 0
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (batch, longest)
    return ids.gather(1, order), lengths


def target_positions(input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the targets of ``(batch, seq)`` labels, row-major. Special tokens are never targets.

    Raises:
        ValueError: If the shapes of the two differ.
    """
    if labels.shape != input_ids.shape:
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, but input_ids {tuple(input_ids.shape)}")
    rows, columns = (labels >= FIRST_ITEM_ID).nonzero(as_tuple=True)
    return rows, columns


class Windows(NamedTuple):
    """Pieces of histories that a model reads, and the targets that follow their items."""

    row: Tensor  # (windows,) row of the batch
    start: Tensor  # (windows,) how many known items of that row come before the window
    n_items: Tensor  # (windows,) how many items it has: as many as its last target follows
    of_target: Tensor  # (targets,) the window of each target, in ascending order
    items_before: Tensor  # (targets,) how many items of its window each target follows

    def item_ids(self, packed: Tensor) -> Tensor:
        """``(batch, seq)`` right-padded ids of the known items to the ``(windows, items)`` ids of the windows."""
        slots = torch.arange(int(self.n_items.max()) if len(self.n_items) else 0, device=packed.device)
        columns = (self.start[:, None] + slots).clamp_max(packed.shape[1] - 1)
        return packed[self.row[:, None], columns].masked_fill(slots >= self.n_items[:, None], PAD_ID)


def windows_of(rows: Tensor, preceding: Tensor, max_history: int, *, shared: bool) -> Windows:
    """The last ``max_history`` items before each target, as one window a target or shared where they start alike.

    The targets after the first ``max_history`` items of a row all start at its first item and can share one window.
    ``(targets,)`` ``rows`` are in ascending order; the ``(targets,)`` numbers of known items ``preceding`` each target
    are so within a row.
    """
    start = (preceding - max_history).clamp_min(0)
    items_before = preceding - start
    if not shared:
        return Windows(rows, start, items_before, torch.arange(len(rows), device=rows.device), items_before)
    windows, of_target = torch.stack([rows, start]).unique(dim=1, return_inverse=True)  # (2, windows)
    n_items = torch.zeros_like(windows[0]).scatter_reduce_(0, of_target, items_before, "amax")
    return Windows(windows[0], windows[1], n_items, of_target, items_before)
