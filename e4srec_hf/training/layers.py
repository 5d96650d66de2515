"""Dropout on what each layer of a base adds."""

from typing import Any, cast

from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling.bases import decoder_layers


def drop_from_layers(base: PreTrainedModel, dropout: float) -> None:
    """Put dropout on what each layer of a base adds to its input, while the base is in training mode.

    A later call changes the dropout. It is a `ValueError` if there is dropout, but no layers are found.
    """
    layers = decoder_layers(base)
    if dropout and not layers:
        raise ValueError(f"base_dropout is {dropout}, but no stack of layers is found in {type(base).__name__}.")
    for layer in layers:
        layer.base_dropout = dropout  # type: ignore[assignment]
        if _drop not in layer._forward_hooks.values():
            layer.register_forward_hook(_drop, with_kwargs=True)


def _drop(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    dropout = cast(float, getattr(layer, "base_dropout", 0.0))  # a base that another adapter shares has none
    if not (dropout and layer.training):
        return None
    before = args[0] if args else kwargs["hidden_states"]
    after = output[0] if isinstance(output, tuple) else output
    before = before.to(after.device)  # of a base that is spread out
    dropped = before + F.dropout(after - before, dropout)
    return (dropped, *output[1:]) if isinstance(output, tuple) else dropped
