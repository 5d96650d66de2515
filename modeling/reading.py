"""Reading histories with the base: instruction, items and response in, the hidden state of each target out.

The instruction is the same for every row, so it runs once, with batch size 1, and the rows look at its keys and values.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from .bases import decoder_layers
from .packing import PackedRows, visible_slots


class ReadInstruction(NamedTuple):
    """An instruction that the base has run over.

    Attributes:
        keys_and_values: Of each layer, ``(1, heads, tokens, head dimension)``.
        state: ``(hidden,)`` the last hidden state.
        length: Number of tokens.
    """

    keys_and_values: list[tuple[Tensor, Tensor]]
    state: Tensor
    length: int


def read_instruction(base: PreTrainedModel, tokens: Tensor) -> ReadInstruction:
    """Run the base over the ``(tokens, hidden)`` instruction alone."""
    # no config: a layer with a sliding window keeps all keys, and its mask says what it sees
    cache = DynamicCache()
    mask = torch.ones(1, len(tokens), dtype=torch.long, device=tokens.device)
    states = base(inputs_embeds=tokens[None], attention_mask=mask, past_key_values=cache, use_cache=True)
    kept: list[Any] = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
    if not kept or any(keys is None or keys.shape[-2] != len(tokens) for keys, _ in kept):
        raise ValueError(f"{type(base).__name__} keeps no keys and values that rows could share.")
    return ReadInstruction(kept, states.last_hidden_state[0, -1], len(tokens))


class SharedLayer(DynamicLayer):
    """Keys and values of one layer, ``(1, heads, tokens, head dimension)``, that all rows of a pass look at.

    What the rows add is handed on and not kept, for nothing is read behind them: without gradients, a pass holds the
    long keys and values of one layer at a time.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Ours in front of the ``(rows, heads, slots, head dimension)`` of a pass."""
        rows = len(key_states)
        pairs = (self.keys, key_states), (self.values, value_states)
        keys, values = (torch.cat([ours.expand(rows, -1, -1, -1), theirs], dim=-2) for ours, theirs in pairs)
        return keys, values


def read_targets(
    base: PreTrainedModel,
    rows: PackedRows,
    instruction: Tensor | ReadInstruction,
    items: Tensor,
    response: Tensor,
    *,
    skip_unread: bool,
) -> Tensor:
    """Run the base over packed rows and take the state that scores each target.

    Args:
        base: The base.
        rows: The layout.
        instruction: ``(tokens, hidden)`` to put in front of every row, or what [`read_instruction`] made of it.
        items: ``(rows, items, hidden)`` lifted items, right-padded.
        response: ``(tokens, hidden)``.
        skip_unread: Whether the last layer may leave out what it would do for tokens that no target is read from:
            their keys and values are needed, their states are not. Not under gradient checkpointing, which runs the
            layers again later.

    Returns:
        ``(targets, hidden)``.
    """
    vocabulary = torch.cat([items, response.expand(len(items), -1, -1)], dim=1)  # (rows, items + response, hidden)
    embeds = vocabulary.gather(1, rows.token.unsqueeze(-1).expand(-1, -1, vocabulary.shape[-1]))
    shared = isinstance(instruction, ReadInstruction)
    n_before = instruction.length if isinstance(instruction, ReadInstruction) else len(instruction)
    if isinstance(instruction, ReadInstruction):
        if not embeds.shape[1]:  # nothing stands behind the instruction
            return instruction.state.expand(len(rows.read), -1) + 0 * vocabulary.sum()  # what is trained has a gradient
        cache = Cache(layers=[SharedLayer(*pair) for pair in instruction.keys_and_values])
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    else:
        embeds = torch.cat([instruction.expand(len(embeds), -1, -1), embeds], dim=1)
        arguments = {"use_cache": False}
    if rows.is_plain:
        slots = torch.arange(n_before + rows.token.shape[1], device=embeds.device)
        arguments["attention_mask"] = (slots < n_before + rows.length[:, None]).long()
    else:
        positions = n_before + rows.position
        if not shared:
            before = torch.arange(n_before, device=embeds.device).expand(len(embeds), -1)
            positions = torch.cat([before, positions], dim=1)
        arguments["position_ids"] = positions
        arguments["attention_mask"] = attention_masks(base, rows, n_before, shared, embeds.dtype)
    read = rows.read.clamp_min(0) if shared else n_before + rows.read
    with only_where_read(rows.row, read, embeds.shape[:2]) if skip_unread else nullcontext():
        states = base(inputs_embeds=embeds, **arguments).last_hidden_state  # (rows, slots, hidden)
    states = states[rows.row, read]  # (targets, hidden)
    if not isinstance(instruction, ReadInstruction):
        return states
    return instruction.state.to(states.device).where(rows.read[:, None] < 0, states)


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
    """Within it, what [`let_the_last_layer_skip`] prepared works on some tokens only, with zeros for the others.

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
    """Prepare the last layer to work only where its state is read, in the parts of it where tokens do not meet.

    What it does not have under the usual names works on all tokens as ever.
    """
    for part in tokenwise_parts_of_the_last_layer(base):
        if _pick not in part._forward_pre_hooks.values():  # the base may serve several models
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
