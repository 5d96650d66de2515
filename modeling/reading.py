"""Reading histories with the base: instruction, items and response in, the hidden state of each target out.

The instruction is the same for every row, so it runs once, with batch size 1, and the rows look at its keys and values.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache, PreTrainedModel

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
        if not embeds.shape[0] or not embeds.shape[1]:  # nothing stands behind the instruction
            return instruction.state.expand(len(rows.read), -1) + 0 * vocabulary.sum()  # what is trained has a gradient
        cache = DynamicCache(instruction.keys_and_values)
        layers: list[Any] = cache.layers
        for layer in layers:  # views: the rows have one copy between them until each adds its own keys
            layer.keys, layer.values = (part.expand(len(embeds), -1, -1, -1) for part in (layer.keys, layer.values))
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    else:
        embeds = torch.cat([instruction.expand(len(embeds), -1, -1), embeds], dim=1)
        if not embeds.shape[0] or not embeds.shape[1]:
            return embeds.new_zeros(len(rows.read), embeds.shape[-1]) + 0 * vocabulary.sum()
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
    with only_where_read(base, rows.row, read, embeds.shape[:2]) if skip_unread else nullcontext():
        states = base(inputs_embeds=embeds, **arguments).last_hidden_state  # (rows, slots, hidden)
    states = states[rows.row, read]  # (targets, hidden)
    if not isinstance(instruction, ReadInstruction):
        return states
    return instruction.state.to(states.device).where(rows.read[:, None] < 0, states)


@contextmanager
def only_where_read(base: PreTrainedModel, row: Tensor, slot: Tensor, shape: torch.Size) -> Iterator[None]:
    """Within it, the last layer works on some tokens only, with zeros for the others, where tokens do not meet.

    Args:
        base: The base. What its last layer does not have under the usual names works on all tokens as ever.
        row: ``(targets,)`` rows of the tokens.
        slot: ``(targets,)`` their slots.
        shape: Rows and slots in all.
    """
    wanted = torch.zeros(shape, dtype=torch.bool, device=row.device)
    wanted[row, slot] = True
    places = wanted.nonzero(as_tuple=True)  # each token once, also where several targets are read from it

    def on(device: torch.device) -> tuple[Tensor, ...]:
        return tuple(place.to(device) for place in places)

    def pick(module: nn.Module, args: tuple[Tensor]) -> Tensor:
        return args[0][on(args[0].device)]  # (tokens, hidden)

    def put_back(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output.new_zeros(*shape, output.shape[-1]).index_put(on(output.device), output)

    hooks: list[RemovableHandle] = []
    try:
        for part in tokenwise_parts_of_the_last_layer(base):
            hooks += part.register_forward_pre_hook(pick), part.register_forward_hook(put_back)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def tokenwise_parts_of_the_last_layer(base: PreTrainedModel) -> list[nn.Module]:
    """Its MLP, where it has no experts, and the queries and the output of its attention: vectors in, vectors out."""
    depth = base.config.get_text_config().num_hidden_layers
    stacks = (module for module in base.modules() if isinstance(module, nn.ModuleList) and len(module) == depth)
    last = next(stacks, [None])[-1]
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
