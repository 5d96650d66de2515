"""Continued reading: a history that grows at its end is read on from where it was, not from its beginning.

The base keeps the keys and values of the items that it has read. A new item is then one token, and the response is read
after it without being kept:

    kept       instruction (shared by all histories) | item 1 … item n
    read now                                                          | new items | response
    kept then  instruction                           | item 1 … item n  new items

Every token sees what it would see if all were read at once, so the state is the same. Where a base cannot do this, a
numerical check with random vectors finds it out: there is no list of architectures.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.utils import logging

from ..modeling.reading import ReadingTask, ReadInstruction, difference, noise, read_instruction, read_rows

if TYPE_CHECKING:
    from ..modeling import E4SRecModel

#: A base is checked with at least this many items, where it has as many positions.
ITEMS_TO_CHECK = 64

logger = logging.get_logger(__name__)


class ReadItems(NamedTuple):
    """The items of one history that a base has read after the instruction.

    Attributes:
        keys_and_values: Of each layer, ``(1, heads, items, head dimension)`` each.
        length: Number of items.
    """

    keys_and_values: list[tuple[Tensor, Tensor]]
    length: int


#: What has been read of a history at its beginning.
NOTHING_READ = ReadItems([], 0)


def read_on(
    base: PreTrainedModel, instruction: ReadInstruction | None, before: ReadItems, items: Tensor, response: Tensor
) -> tuple[Tensor, ReadItems]:
    """Read new items and the response after what was read before.

    Args:
        base: The base.
        instruction: What it read first; ``None`` if there is none.
        before: The items that it read next.
        items: ``(items, hidden)`` the new ones.
        response: ``(tokens, hidden)``.

    Returns:
        The ``(hidden,)`` last state, and all items that are read now, without the response.

    Raises:
        ValueError: If the base keeps no keys and values, or there is nothing to read.
    """
    first = 0 if instruction is None else instruction.length
    length, vectors = before.length + len(items), torch.cat([items, response])  # (tokens, hidden)
    if not len(vectors):
        if instruction is None or before.length:
            raise ValueError("There is neither a new item nor a prompt: nothing to read.")
        return instruction.state, before
    # without a config, a layer with a sliding window keeps all keys, and its mask says which are visible
    cache = DynamicCache()
    for pairs in ([] if instruction is None else instruction.keys_and_values, before.keys_and_values):
        for layer, (keys, values) in enumerate(pairs):
            cache.update(keys, values, layer)
    mask = torch.ones(1, first + before.length + len(vectors), dtype=torch.long, device=vectors.device)
    states = base(inputs_embeds=vectors[None], attention_mask=mask, past_key_values=cache, use_cache=True)
    found: list[Any] = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
    if not found or any(keys is None or keys.shape[-2] != mask.shape[1] for keys, _ in found):
        raise ValueError(f"{type(base).__name__} keeps no keys and values of a history.")
    pairs = [tuple(part[:, :, first : first + length].clone() for part in pair) for pair in found]
    return states.last_hidden_state[0, -1], ReadItems(pairs, length)  # type: ignore[arg-type]


_checked: WeakKeyDictionary[PreTrainedModel, dict[Any, tuple[str, int]]] = WeakKeyDictionary()


def why_not_continued(model: "E4SRecModel", task: ReadingTask, n_items: int) -> str:
    """Why a history of up to ``n_items`` items is read anew each time; empty where it can be read on.

    The base is checked on the first call, and again if histories get longer than any before. A warning says it once if
    it does not pass.
    """
    base, (instruction, response) = task.base, task.prompt
    config, n_prompt = base.config.get_text_config(), len(instruction) + len(response)
    checked = _checked.setdefault(model, {})
    key = (config._attn_implementation, instruction.dtype, instruction.device, len(instruction), len(response))
    reason, longest = checked.get(key, ("", 0))
    if not reason and longest < n_items:
        places = getattr(config, "max_position_embeddings", None) or 2**30
        n_items = max(n_items, min(max(2 * n_items, ITEMS_TO_CHECK), task.max_history, places - n_prompt))
        reason = check_continued(base, instruction, response, n_items)
        checked[key] = reason, n_items
        if reason:
            logger.warning(f"A session reads its whole history again after each item, which takes longer: {reason}.")
    return reason


def check_continued(base: PreTrainedModel, instruction: Tensor, response: Tensor, n_items: int) -> str:
    """How states that are read on differ from those of whole histories; empty where they agree.

    Args:
        base: The base.
        instruction: ``(tokens, hidden)``, possibly none.
        response: ``(tokens, hidden)``, possibly none.
        n_items: Items of the longest history, at least 1.
    """
    items = noise(base, n_items)
    lengths = sorted({max(n_items // 2, 1), min(n_items // 2 + 1, n_items), n_items})

    def anew() -> Tensor:
        wanted = torch.tensor(lengths, device=items.device)
        return read_rows(base, instruction, items.expand(len(lengths), -1, -1), wanted, response)

    def continued() -> Tensor:
        first = read_instruction(base, instruction) if len(instruction) else None
        states, read = [], NOTHING_READ
        for start, end in pairwise([0, *lengths]):
            state, read = read_on(base, first, read, items[start:end], response)
            states.append(state)
        return torch.stack(states)

    return difference(base, anew, continued)
