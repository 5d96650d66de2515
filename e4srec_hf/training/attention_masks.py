"""Attention masks of packed rows, as the layers of a base take them."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .packing import PackedRows, visible_slots


def attention_masks(
    base: PreTrainedModel, rows: PackedRows, n_before: int, shared: bool, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """The ``(rows, 1, queries, keys)`` mask of packed rows as the layers of the base take it.

    Where rows are longer than a sliding window and only some layers have one, a mask for each kind of layer.
    """
    config = base.config.get_text_config()
    window = sliding_window(base)
    if window is not None and n_before + int(rows.position.max()) < window:
        window = None

    def mask(window: int | None) -> Tensor:
        visible = visible_slots(rows, n_before, window)  # (rows, width, n_before + width)
        if not shared and n_before:  # the instruction's own tokens look back only, and not at the rows
            slots = torch.arange(n_before, device=visible.device)
            distance = slots[:, None] - slots
            looks_back = (distance >= 0) & (distance < (window or n_before))
            before = nn.functional.pad(looks_back, (0, visible.shape[1])).expand(len(visible), -1, -1)
            visible = torch.cat([before, visible], dim=1)
        visible = visible.unsqueeze(1)
        if config._attn_implementation == "sdpa":
            return visible
        return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)

    kinds = layer_kinds(base)
    if window is None or kinds == {"sliding_attention"}:
        return mask(window)
    return {kind: mask(window if kind == "sliding_attention" else None) for kind in kinds}


def layer_kinds(base: PreTrainedModel) -> set[str]:
    """The kinds of attention that the layers of a base have, in the names of `transformers`."""
    config = base.config.get_text_config()
    if kinds := getattr(config, "layer_types", None):
        return set(kinds)
    return {"full_attention" if getattr(config, "sliding_window", None) is None else "sliding_attention"}


def sliding_window(base: PreTrainedModel) -> int | None:
    """How many positions back the layers with a window see; ``None`` where no layer has one."""
    window = getattr(base.config.get_text_config(), "sliding_window", None)
    return window if "sliding_attention" in layer_kinds(base) else None
