"""Packing: many targets of one history in one row, each with the answer it would have had in a row of its own.

A language model that looks back only need not read a history again for every item that is predicted from it. The items
stand in a row once, and behind them a copy of the response tokens for each target. Instruction ``p``, items ``a b c``,
a response of two tokens ``r s``, and targets that follow no item, ``a b``, and ``a b c``:

    slot                      0 1 2   3 4   5 6   7 8
    token             p p p | a b c | r s | r s | r s
    position          0 1 2 | 3 4 5 | 3 4 | 5 6 | 6 7     as if each copy stood right behind the items it follows

    item a  sees      x x x | x . . | . . | . . | . .
    item b            x x x | x x . | . . | . . | . .
    item c            x x x | x x x | . . | . . | . .
    copy 0  r         x x x | . . . | x . | . . | . .
            s         x x x | . . . | x x | . . | . .  →  scores the target that follows nothing
    copy 1  r         x x x | x x . | . . | x . | . .
            s         x x x | x x . | . . | x x | . .  →  scores the target that follows a b
    copy 2  r         x x x | x x x | . . | . . | x .
            s         x x x | x x x | . . | . . | x x  →  scores the target that follows a b c

Every token sees exactly what it would see alone, at the same positions, so its state is the same. Without response
tokens the state of the last item is read itself, and the row is the plain history.

Targets can share a row as long as their histories start at the same item: [`segments_of`]. A row is counted from its
first item here; the instruction in front is the same for all rows and need not be part of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .histories import PAD_ID


class Segments(NamedTuple):
    """Targets by the items they share: those of one row of the batch whose histories start at the same item.

    Attributes:
        row: ``(segments,)`` the row of the batch.
        start: ``(segments,)`` how many known items of that row stand before the segment.
        n_items: ``(segments,)`` how many items it has: as many as its last target follows.
        of_target: ``(targets,)`` the segment of each target, in ascending order.
        items_before: ``(targets,)`` how many items of its segment each target follows.
    """

    row: Tensor
    start: Tensor
    n_items: Tensor
    of_target: Tensor
    items_before: Tensor

    def item_ids(self, packed: Tensor) -> Tensor:
        """``(batch, seq)`` right-padded ids of the known items to the ``(segments, items)`` ids of the segments."""
        slots = torch.arange(int(self.n_items.max()) if len(self.n_items) else 0, device=packed.device)
        if not len(slots):
            return packed.new_zeros(len(self.row), 0)
        columns = (self.start[:, None] + slots).clamp_max(packed.shape[1] - 1)
        return packed[self.row[:, None], columns].masked_fill(slots >= self.n_items[:, None], PAD_ID)

    def select(self, chosen: Tensor) -> tuple["Segments", Tensor]:
        """Some of the segments, and which of the targets are theirs.

        Args:
            chosen: ``(some,)`` numbers of segments, in ascending order.
        """
        number = torch.full_like(self.row, -1).index_copy(0, chosen, torch.arange(len(chosen), device=chosen.device))
        targets = (number[self.of_target] >= 0).nonzero().squeeze(1)
        of_target = number[self.of_target[targets]]
        kept = Segments(
            self.row[chosen], self.start[chosen], self.n_items[chosen], of_target, self.items_before[targets]
        )
        return kept, targets


def segments_of(rows: Tensor, preceding: Tensor, max_history: int, *, one_each: bool = False) -> Segments:
    """Group targets into segments. A target follows the last ``max_history`` known items before it.

    The targets behind the first ``max_history`` items of a row all start at its first item and make one segment. Each
    later one starts at an item of its own, and is a segment of its own.

    Args:
        rows: ``(targets,)`` row of each target, in ascending order.
        preceding: ``(targets,)`` number of known items before it, ascending within a row.
        max_history: How many of them count: the last ones.
        one_each: Whether to make each target a segment of its own, for bases that cannot share.
    """
    start = (preceding - max_history).clamp_min(0)
    items_before = preceding - start
    if one_each:
        return Segments(rows, start, items_before, torch.arange(len(rows), device=rows.device), items_before)
    histories, of_target = torch.stack([rows, start]).unique(dim=1, return_inverse=True)  # (2, segments)
    n_items = torch.zeros_like(histories[0]).scatter_reduce_(0, of_target, items_before, "amax")
    return Segments(histories[0], histories[1], n_items, of_target, items_before)


def groups_of_similar_length(lengths: Sequence[int], enough: int, padding: float = 0.15) -> list[list[int]]:
    """Split rows into groups that waste little on padding, for a row is as wide as the longest of its group.

    Args:
        lengths: Length of each row.
        enough: A group with fewer slots than this takes any row, for a pass has a price of its own;
        padding: one with more takes only rows that are shorter than its longest by no more than this part of it.

    Returns:
        Numbers of rows, ascending in each group.
    """
    groups: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not groups or (lengths[row] < (1 - padding) * longest and len(groups[-1]) * longest >= enough):
            groups.append([])
            longest = lengths[row]
        groups[-1].append(row)
    return [sorted(group) for group in groups]


class PackedRows(NamedTuple):
    """Rows of items and response copies, right-padded.

    Attributes:
        token: ``(rows, width)`` what stands in a slot: ``i`` below the greatest number of items for item ``i``, that
            number plus ``r`` for response token ``r``. Anything where a row has ended.
        position: ``(rows, width)`` position of a slot, counted from the first item.
        copy: ``(rows, width)`` which copy of its row a slot belongs to; -1 for items and padding.
        items_seen: ``(rows, width)`` how many items a slot may look at, itself among them.
        length: ``(rows,)`` slots that are filled.
        row: ``(targets,)`` row of each target.
        read: ``(targets,)`` slot whose state scores the target; -1 is the end of what stands before the first item.
        is_plain: Whether every row is an ordinary sequence, for which a causal mask and counted positions do.
    """

    token: Tensor
    position: Tensor
    copy: Tensor
    items_seen: Tensor
    length: Tensor
    row: Tensor
    read: Tensor
    is_plain: bool


def pack_rows(segments: Segments, n_response: int) -> PackedRows:
    """Lay out the rows of the picture above, one for each segment.

    Args:
        segments: The targets and the items they share.
        n_response: Number of response tokens, possibly none.
    """
    n_items, row, items_before = segments.n_items, segments.of_target, segments.items_before
    copies = torch.bincount(row, minlength=len(n_items))  # (rows,)
    ordinal = torch.arange(len(row), device=row.device) - (copies.cumsum(0) - copies)[row]  # of a target in its row
    length = n_items + n_response * copies
    slots = torch.arange(int(length.max()) if len(length) else 0, device=row.device)  # (width,)

    is_item = slots < n_items[:, None]  # (rows, width)
    token = slots.where(is_item, 0)
    position = slots.where(is_item, 0)
    copy = torch.full_like(token, -1)
    items_seen = (slots + 1).where(is_item, 0)

    response = torch.arange(n_response, device=row.device)
    first = n_items[row] + ordinal * n_response  # (targets,) first slot of each copy
    place = row[:, None], first[:, None] + response  # (targets, response)
    token[place] = response + (n_items.max() if len(n_items) else 0)
    position[place] = items_before[:, None] + response
    copy[place] = ordinal[:, None].expand(-1, n_response)
    items_seen[place] = items_before[:, None].expand(-1, n_response)

    read = first + n_response - 1 if n_response else items_before - 1
    is_plain = not n_response or len(row) == len(n_items)
    return PackedRows(token, position, copy, items_seen, length, row, read, is_plain)


def visible_slots(rows: PackedRows, n_before: int = 0, window: int | None = None) -> Tensor:
    """What each slot may look at: everything before the first item, its items, and its own copy up to itself.

    Args:
        rows: The layout.
        n_before: Number of tokens that stand before the first item of every row.
        window: How many positions back a token sees, itself among them; ``None`` is all of them.

    Returns:
        ``(rows, width, n_before + width)`` booleans. A padding slot sees itself, so that no row of them is empty.
    """
    slots = torch.arange(rows.token.shape[1], device=rows.token.device)
    is_item = (rows.copy < 0) & (slots < rows.length[:, None])  # (rows, width)
    items = is_item[:, None, :] & (slots < rows.items_seen[:, :, None])  # (rows, width, width)
    own_copy = (rows.copy[:, :, None] == rows.copy[:, None, :]) & (rows.copy >= 0)[:, None, :]
    visible = items | (own_copy & (slots <= slots[:, None])) | (slots == slots[:, None])
    before = torch.arange(-n_before, 0, device=slots.device).expand(len(rows.token), -1)  # (rows, n_before)
    visible = torch.cat([visible.new_ones(*rows.token.shape, n_before), visible], dim=2)
    if window is not None:
        key = torch.cat([before, rows.position], dim=1)  # (rows, n_before + width)
        visible &= rows.position[:, :, None] - key[:, None, :] < window
    return visible
