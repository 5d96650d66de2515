"""The last layer computes only what is read: its states are used at the targets, elsewhere only its keys and values.

Without it a packed step on a base of four layers takes 1.15 times as long (docs/speed.md). The dropout of LoRA would
also draw other numbers, which changes the published figures of a frozen base.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..modeling.bases import decoder_layers


class Tokens(NamedTuple):
    """Some tokens of a pass.

    Attributes:
        row: ``(tokens,)``.
        slot: ``(tokens,)``.
        shape: Rows and slots of the pass.
    """

    row: Tensor
    slot: Tensor
    shape: torch.Size


#: The tokens whose states the pass of this thread is for; ``None`` is all of them.
_wanted: ContextVar[Tokens | None] = ContextVar("wanted", default=None)


@contextmanager
def only_where_read(row: Tensor, slot: Tensor, shape: torch.Size) -> Iterator[None]:
    """Let the parts that [`let_the_last_layer_skip`] prepared compute some tokens only, and give zeros for the others.

    Args:
        row: ``(targets,)`` rows of the tokens.
        slot: ``(targets,)`` their slots.
        shape: Rows and slots in all.
    """
    wanted = torch.zeros(shape, dtype=torch.bool, device=row.device)
    wanted[row, slot] = True
    rows, slots = wanted.nonzero(as_tuple=True)  # each token once, also where several targets are read from it
    before = _wanted.set(Tokens(rows, slots, shape))
    try:
        yield
    finally:
        _wanted.reset(before)


def let_the_last_layer_skip(base: PreTrainedModel) -> None:
    """Prepare the last layer to compute only what is read, in the parts of it that treat each token separately.

    Parts without the usual names compute all tokens.
    """
    for part in tokenwise_parts_of_the_last_layer(base):
        if _pick not in part._forward_pre_hooks.values():  # it may have been prepared before
            part.register_forward_pre_hook(_pick)
            part.register_forward_hook(_put_back)


def _pick(module: nn.Module, args: tuple[Tensor]) -> Tensor | None:
    """``(rows, slots, …)`` to ``(tokens, …)``."""
    wanted = _wanted.get()
    return None if wanted is None else args[0][wanted.row.to(args[0].device), wanted.slot.to(args[0].device)]


def _put_back(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor | None:
    """``(tokens, …)`` to ``(rows, slots, …)``."""
    wanted = _wanted.get()
    if wanted is None:
        return None
    place = wanted.row.to(output.device), wanted.slot.to(output.device)
    return output.new_zeros(*wanted.shape, output.shape[-1]).index_put(place, output)


def tokenwise_parts_of_the_last_layer(base: PreTrainedModel) -> list[nn.Module]:
    """Its MLP, where it has no experts, and the queries and the output of its attention: vectors in, vectors out."""
    last = [None, *decoder_layers(base)][-1]
    attention, mlp = getattr(last, "self_attn", None), getattr(last, "mlp", None)
    parts = [getattr(attention, "q_proj", None), getattr(attention, "o_proj", None)]
    if mlp is not None and not any("expert" in name for name, _ in mlp.named_modules()):
        parts.append(mlp)
    return [part for part in parts if part is not None]
