"""Reading histories with the base: instruction, items and response in, the hidden state that scores each target out.

Each target has a row of its own. The instruction is the same in every row, so the base reads it once, with batch size
1, and the rows attend to its keys and values. A numerical check finds out whether a base can do that.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from .bases import text_embeddings
from .histories import windows_of
from .recommender import evaluation_mode

#: A forward pass has a fixed cost: one of fewer slots is not split to save padding.
SLOTS_WORTH_A_PASS = {"cpu": 256, "accelerator": 4096}
#: Signs of an error that is about memory and not about the base.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


class ReadInstruction(NamedTuple):
    """An instruction that the base has read."""

    keys_and_values: list[tuple[Tensor, Tensor]]  # of each layer, (1, heads, tokens, head dimension)
    state: Tensor  # (hidden,) the last hidden state
    length: int  # number of tokens


def read_instruction(base: PreTrainedModel, tokens: Tensor) -> ReadInstruction:
    """Run the base over the ``(tokens, hidden)`` instruction alone."""
    # without a config, a layer with a sliding window keeps all keys, and its mask says which are visible
    cache = DynamicCache()
    mask = torch.ones(1, len(tokens), dtype=torch.long, device=tokens.device)
    states = base(inputs_embeds=tokens[None], attention_mask=mask, past_key_values=cache, use_cache=True)
    pairs: list[Any] = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
    if not pairs or any(keys is None or keys.shape[-2] != len(tokens) for keys, _ in pairs):
        raise ValueError(f"{type(base).__name__} keeps no keys and values that rows could share.")
    return ReadInstruction(pairs, states.last_hidden_state[0, -1], len(tokens))


class SharedLayer(DynamicLayer):
    """Keys and values of one layer, ``(1, heads, tokens, head dimension)``, that all rows of a pass attend to."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put ours in front of the ``(rows, heads, slots, head dimension)`` of a pass, and keep nothing of it."""
        rows = len(key_states)
        pairs = (self.keys, key_states), (self.values, value_states)
        keys, values = (torch.cat([ours.expand(rows, -1, -1, -1), theirs], dim=-2) for ours, theirs in pairs)
        return keys, values


class KeptInstruction:
    """The instruction of one model, read once for as long as this object lives.

    Inside ``with``, calls of the model in this thread that take no gradients use it. Several threads may enter one
    object, and enter it again. The weights of the model must not change during its life.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._read: tuple[Any, ReadInstruction] | None = None

    def __enter__(self) -> "KeptInstruction":
        _entered.set((*_entered.get(), self))
        return self

    def __exit__(self, *error: object) -> None:
        active = _entered.get()
        place = len(active) - 1 - active[::-1].index(self)  # the last one, whatever else was entered after it
        _entered.set(active[:place] + active[place + 1 :])

    @staticmethod
    def of(model: PreTrainedModel) -> "KeptInstruction | None":
        """The one of ``model`` that this thread has entered."""
        return next((kept for kept in reversed(_entered.get()) if kept.model is model), None)

    def read(self, base: PreTrainedModel, tokens: Tensor) -> ReadInstruction:
        """The ``(tokens, hidden)`` instruction as the base reads it, computed on the first call."""
        autocast = torch.is_autocast_enabled(tokens.device.type) and torch.get_autocast_dtype(tokens.device.type)
        key = (base.config.get_text_config()._attn_implementation, tokens.dtype, tokens.device, autocast)
        if (read := self._read) is None or read[0] != key:
            read = self._read = key, read_instruction(base, tokens)
        return read[1]


_entered: ContextVar[tuple[KeptInstruction, ...]] = ContextVar("entered", default=())


class ReadingTask(NamedTuple):
    """What stays the same from one reading to the next."""

    base: PreTrainedModel
    prompt: tuple[Tensor, Tensor]  # (tokens, hidden) instruction and response
    max_history: int  # how many items count before a target: the last ones
    kept: KeptInstruction | None = None  # the instruction, where it is kept between calls


class PlainReader:
    """Reads each target in a row of its own, rows of similar length in one pass."""

    def __init__(self) -> None:
        self._checked: dict[Any, tuple[str, int]] = {}  # why rows cannot share the instruction; the longest row tried

    def read(
        self, task: ReadingTask, ids: Tensor, project: Callable[[Tensor], Tensor], rows: Tensor, preceding: Tensor
    ) -> Tensor:
        """The ``(targets, hidden)`` states that score the targets.

        ``ids`` are the ``(batch, seq)`` right-padded known items, which ``project`` takes to vectors of the base's
        width and dtype; ``rows`` and ``preceding`` are as for [`windows_of`].
        """
        if not len(rows):  # trained weights get a gradient all the same: other processes may wait for it
            nothing = ids.new_zeros(1, 1)
            return self.read(task, nothing, project, nothing[0], nothing[0] + 1)[:0]
        windows, response = windows_of(rows, preceding, task.max_history, shared=False), task.prompt[1]
        before, window_ids = self.instruction(task, int(windows.n_items.max())), windows.item_ids(ids)
        groups = groups_of_similar_length(windows.n_items + len(response))
        states = []
        for group in groups:
            n_items = windows.n_items[group]
            items = project(window_ids[group, : int(n_items.max())])  # (rows, items, hidden)
            states.append(read_rows(task.base, before, items, n_items, response))
        return states[0] if len(groups) == 1 else torch.cat(states)[torch.cat(groups).argsort()]

    def instruction(self, task: ReadingTask, n_items: int) -> Tensor | ReadInstruction:
        """The instruction for rows of up to ``n_items`` items: read once, or its ``(tokens, hidden)`` vectors."""
        base, tokens = task.base, task.prompt[0]
        if not self.shares_instruction(task, n_items):
            return tokens
        return read_instruction(base, tokens) if task.kept is None else task.kept.read(base, tokens)

    def shares_instruction(self, task: ReadingTask, n_items: int) -> bool:
        """Whether the instruction is read once for all rows."""
        return bool(len(task.prompt[0])) and not is_checkpointing(task.base) and not self.why_not_shared(task, n_items)

    def why_not_shared(self, task: ReadingTask, n_items: int) -> str:
        """Why rows cannot share the instruction; empty where the numerical check has found that they can."""
        base, (instruction, response) = task.base, task.prompt
        config, n_prompt = base.config.get_text_config(), len(instruction) + len(response)
        key = (config._attn_implementation, instruction.dtype, instruction.device, len(instruction), len(response))
        reason, longest = self._checked.get(key, ("", -1))
        if not reason and longest < n_items:  # longer ones come: check twice as long ones, if the base has positions
            places = getattr(config, "max_position_embeddings", None) or 2**30
            n_items = max(n_items, min(max(2 * n_items, 64), task.max_history, places - n_prompt))
            items = noise(base, 4, n_items)
            lengths = torch.tensor([n_items, n_items // 2, min(n_items, 1), 0], device=items.device)
            reason = difference(
                base,
                lambda: read_rows(base, instruction, items, lengths, response),
                lambda: read_rows(base, read_instruction(base, instruction), items, lengths, response),
            )
            self._checked[key] = reason, n_items
        return reason


def read_rows(
    base: PreTrainedModel, before: Tensor | ReadInstruction, items: Tensor, n_items: Tensor, response: Tensor
) -> Tensor:
    """The ``(rows, hidden)`` last states of the base over rows of instruction, items and response.

    ``before`` is the ``(tokens, hidden)`` instruction, or what [`read_instruction`] made of it. The ``(rows, items,
    hidden)`` items are right-padded, ``(rows,)`` ``n_items`` of them count, and ``(tokens, hidden)`` response follow.
    """
    embeds = torch.cat([items, response.expand(len(items), -1, -1)], dim=1)  # (rows, items + response, hidden)
    length = n_items + len(response)  # (rows,)
    slots = torch.arange(int(length.max()), device=items.device)
    if len(items) > 1 or len(slots) < embeds.shape[1]:
        place = slots + (items.shape[1] - n_items[:, None]) * (slots >= n_items[:, None])  # (rows, slots)
        place = place.masked_fill(slots >= length[:, None], 0)
        embeds = embeds.gather(1, place.unsqueeze(-1).expand(-1, -1, embeds.shape[-1]))  # (rows, slots, hidden)
    if isinstance(before, ReadInstruction):
        if not embeds.shape[1]:  # nothing follows the instruction
            return before.state.expand(len(items), -1) + 0 * embeds.sum()  # what is trained has a gradient
        n_before, read = before.length, (length - 1).clamp_min(0)
        cache = Cache(layers=[SharedLayer(*pair) for pair in before.keys_and_values])
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    else:
        n_before, read = len(before), len(before) + length - 1
        embeds = torch.cat([before.expand(len(items), -1, -1), embeds], dim=1)
        arguments = {"use_cache": False}
    mask = torch.arange(n_before + len(slots), device=items.device) < n_before + length[:, None]
    states = base(inputs_embeds=embeds, attention_mask=mask.long(), **arguments).last_hidden_state
    states = states[torch.arange(len(items), device=states.device), read.to(states.device)]  # (rows, hidden)
    if not isinstance(before, ReadInstruction):
        return states
    return before.state.to(states.device).where((length == 0)[:, None].to(states.device), states)


def groups_of_similar_length(lengths: Tensor) -> list[Tensor]:
    """Numbers of the rows that are read together, so that little padding is read and no pass is too small."""
    enough = SLOTS_WORTH_A_PASS["cpu" if lengths.device.type == "cpu" else "accelerator"]
    order = lengths.argsort(descending=True, stable=True)
    groups, start, ordered = [], 0, lengths[order].tolist()
    for place, length in enumerate(ordered):
        if length < 0.85 * ordered[start] and (place - start) * ordered[start] >= enough:
            groups.append(order[start:place].sort().values)
            start = place
    return [*groups, order[start:].sort().values]


def is_checkpointing(base: PreTrainedModel) -> bool:
    """Whether gradient checkpointing takes the cache away from the layers, and runs them again in the backward pass."""
    return base.training and any(getattr(module, "gradient_checkpointing", False) for module in base.modules())


def difference(base: PreTrainedModel, expected: Callable[[], Tensor], found: Callable[[], Tensor]) -> str:
    """How two ways to read ``(targets, hidden)`` states differ, without dropout or autocast; empty where they agree."""
    weight = text_embeddings(base).weight
    with evaluation_mode(base), torch.autocast(weight.device.type, enabled=False):
        want = expected().detach().float()
        try:
            got = found().detach().float()
        except Exception as error:  # any error of the base means that it cannot do it
            if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
                raise
            return f"{type(base).__name__} refuses: {type(error).__name__}: {error}"
    distance = float(((got - want).norm(dim=1) / want.norm(dim=1)).max())
    most = 1e-4 if is_exact(base) else 5e-2
    return "" if distance <= most else f"{type(base).__name__} gives other states: {distance:.1e} off"


def noise(base: PreTrainedModel, *shape: int) -> Tensor:
    """Random vectors as large as token embeddings, drawn without touching the caller's random state.

    They take gradients where the caller does: bitsandbytes keeps what a first pass without them makes of 4-bit weights.
    """
    weight = text_embeddings(base).weight
    vectors = torch.randn(*shape, weight.shape[1], generator=torch.Generator().manual_seed(0))
    vectors = (vectors * weight[:1024].detach().float().std().cpu()).to(weight)
    return vectors.requires_grad_(torch.is_grad_enabled())


def is_exact(base: PreTrainedModel) -> bool:
    """Whether a base computes in full float32."""
    try:
        highest = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by the newer torch.backends.fp32_precision, as the trainer's tf32=True does
        highest = False
    return highest and not getattr(base, "is_quantized", False) and text_embeddings(base).weight.dtype == torch.float32
