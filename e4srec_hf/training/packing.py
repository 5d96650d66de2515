"""Packing: many targets of one history share one row, and each gets the state it would have in a row of its own.

A causal language model need not read a history again for every item that is predicted from it. The items are in a
row once, followed by a copy of the response tokens for each target. Instruction ``p``, items ``a b c``,
a response of two tokens ``r s``, and targets that follow no item, ``a b``, and ``a b c``:

    slot                      0 1 2   3 4   5 6   7 8
    token             p p p | a b c | r s | r s | r s
    position          0 1 2 | 3 4 5 | 3 4 | 5 6 | 6 7     as if each copy came right after the items it follows

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

Targets can share a row as long as their histories start at the same item: `windows_of`. A row is counted from its
first item here; the instruction in front is the same for all rows and need not be part of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..modeling.histories import Windows


class PackedRows(NamedTuple):
    """Rows of items and response copies, right-padded.

    Attributes:
        token: ``(rows, width)`` content of a slot: ``i`` below the greatest number of items for item ``i``, that
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


def pack_rows(windows: Windows, n_response: int) -> PackedRows:
    """Lay out the rows of the picture above, one for each window.

    Args:
        windows: The targets and the items they share.
        n_response: Number of response tokens, possibly none.
    """
    n_items, row, items_before = windows.n_items, windows.of_target, windows.items_before
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
