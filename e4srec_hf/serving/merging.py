"""LoRA folded into the base, which is then as fast as without it, and taken out again."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from ..modeling import E4SRecModel


def merge_adapter(model: "E4SRecModel") -> None:
    """Fold the LoRA weights into the base of a model, which is then as fast as without them.

    The layers with LoRA get weights of their own, so that no other adapter on this base sees it; the old ones are kept
    in main memory. In a half-precision base the sum is rounded, and scores change a little.

    Args:
        model: The model, changed in place. It saves what it saved before, and is not trained meanwhile.

    Raises:
        ValueError: If there is no LoRA, the base is quantized, or LoRA has biases (``lora_bias``).
    """
    if getattr(model.base, "is_quantized", False):
        raise ValueError("LoRA cannot be merged into a quantized base: load it with dtype= instead.")
    layers = dict(lora_layers(model.base))
    if not layers:
        raise ValueError('There is no LoRA to merge: the base was trained whole (tuning="full").')
    if model.config.lora.get("lora_bias"):
        raise ValueError("LoRA with biases of its own (lora_bias) cannot be merged: use it unmerged.")
    for name, layer in layers.items():
        if name not in model.unmerged_weights:
            below = layer.get_base_layer()
            model.unmerged_weights[name] = below.weight.detach().to("cpu", copy=True)
            below.weight = nn.Parameter(below.weight.detach().clone(), requires_grad=False)
            layer.merge()


def unmerge_adapter(model: "E4SRecModel") -> None:
    """Take the LoRA weights out of the base again: it is bit for bit what it was before [`merge_adapter`].

    The layers that were merged keep weights of their own.
    """
    for name, layer in lora_layers(model.base):
        if name in model.unmerged_weights:
            layer.unmerge()
            with torch.no_grad():  # subtracting leaves rounding errors
                layer.get_base_layer().weight.copy_(model.unmerged_weights.pop(name))


def lora_layers(base: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers of a base that LoRA was put into, with their names."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return ((name, layer) for name, layer in base.named_modules() if isinstance(layer, BaseTunerLayer))
