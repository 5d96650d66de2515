"""Packed reading: a history is read once for all its targets wherever a numerical check shows that the base allows it.

Packing is exact for causal transformers that take a mask and positions. It is not for bidirectional encoders, ALiBi,
state-space and hybrid layers or flash attention, and some of these give other numbers without an error. So the base
itself is checked, with random vectors: there is no list of architectures.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.utils import logging

from ..modeling.histories import Windows, windows_of
from ..modeling.reading import (
    PlainReader,
    ReadingTask,
    ReadInstruction,
    SharedLayer,
    difference,
    groups_of_similar_length,
    is_checkpointing,
    is_exact,
    noise,
    read_instruction,
    read_rows,
)
from ..modeling.recommender import evaluation_mode
from .attention_masks import attention_masks
from .last_layer import only_where_read
from .packing import PackedRows, pack_rows

#: A base is checked with rows of this many items, and again where longer ones come.
ITEMS_TO_CHECK = 64

logger = logging.get_logger(__name__)


class Verdict(NamedTuple):
    """Whether a base passed the check.

    Attributes:
        passed: Whether the states were the same.
        reason: Why not; empty where it passed.
        n_items: Items of the longest row of the check.
        n_targets: Targets of the widest row of the check.
        skips: Whether the last layer computes only what is read.
    """

    passed: bool
    reason: str
    n_items: int
    n_targets: int
    skips: bool = False


class PackedReader(PlainReader):
    """Reads the targets of a history in one row, and rows of similar length in one pass."""

    def __init__(self) -> None:
        super().__init__()
        self._verdicts: dict[Any, Verdict] = {}

    def read(
        self, task: ReadingTask, ids: Tensor, project: Callable[[Tensor], Tensor], rows: Tensor, preceding: Tensor
    ) -> Tensor:
        """As [`PlainReader.read`]."""
        if not len(rows):
            return super().read(task, ids, project, rows, preceding)
        windows = windows_of(rows, preceding, task.max_history, shared=True)
        is_packed = len(windows.row) < len(rows)
        if is_packed:
            verdict = self.packing(task, int(windows.n_items.max()), int(torch.bincount(windows.of_target).max()))
            is_packed = verdict.passed
        if not is_packed:
            windows = windows_of(rows, preceding, task.max_history, shared=False)
        before = self.instruction(task, int(windows.n_items.max()))
        skips = is_packed and verdict.skips and not is_checkpointing(task.base)
        response = task.prompt[1]
        n_before = 0 if isinstance(before, ReadInstruction) else len(before)
        lengths = n_before + windows.n_items + len(response) * torch.bincount(windows.of_target)
        states, places = [], []
        for group in groups_of_similar_length(lengths):
            part, targets = select(windows, group)
            items = project(part.item_ids(ids))
            if is_packed:
                states.append(read_packed(task.base, pack_rows(part, len(response)), before, items, response, skips))
            else:
                states.append(read_rows(task.base, before, items, part.n_items, response))
            places.append(targets)
        return torch.cat(states)[torch.cat(places).argsort()]

    def packing(self, task: ReadingTask, n_items: int = 0, n_targets: int = 0) -> Verdict:
        """Whether all targets of a history can be read in one pass; a warning where not.

        Args:
            task: The base and its prompt.
            n_items: Items of the longest row that is to be read.
            n_targets: Targets of the row with most of them.
        """
        base, prompt = task.base, task.prompt
        attention = base.config.get_text_config()._attn_implementation
        shared = self.shares_instruction(task, n_items)
        key = (attention, prompt[0].dtype, prompt[0].device, *map(len, prompt), shared)
        old = self._verdicts.get(key)
        if old is not None and (not old.passed or (old.n_items >= n_items and old.n_targets >= n_targets)):
            return old
        longest = max(n_items, old.n_items if old else 0)
        to_check = ITEMS_TO_CHECK
        while to_check < longest:
            to_check *= 2
        places = getattr(base.config.get_text_config(), "max_position_embeddings", None)
        n_prompt = sum(map(len, prompt))
        to_check = max(min(to_check, task.max_history, (places or to_check + n_prompt) - n_prompt), longest)
        widest = max(to_check + 1, n_targets, old.n_targets if old else 0)
        verdict = self._verdicts[key] = check_packing(base, *prompt, to_check, widest, shared=shared)
        if not verdict.passed:
            logger.warning(f"Each target is read in a row of its own, which takes much longer: {verdict.reason}.")
        return verdict


class ReferenceReader(PlainReader):
    """Reads as the reference code does, to compare with: the instruction again in each row, all rows in one pass."""

    def read(
        self, task: ReadingTask, ids: Tensor, project: Callable[[Tensor], Tensor], rows: Tensor, preceding: Tensor
    ) -> Tensor:
        """As [`PlainReader.read`]."""
        windows = windows_of(rows, preceding, task.max_history, shared=False)
        return read_rows(task.base, task.prompt[0], project(windows.item_ids(ids)), windows.n_items, task.prompt[1])


def packing_of(model: Any) -> Verdict:
    """Whether a model that is prepared for training reads a history once for all its targets, and why not."""
    return model.reader.packing(model.reading_task())


def how_it_reads(model: Any) -> str:
    """A sentence on how the targets of a history are read."""
    verdict = packing_of(model)
    if verdict.passed:
        return "A history is read once for all of them."
    return f"Each target is read in a row of its own, which takes much longer: {verdict.reason}."


def select(windows: Windows, chosen: Tensor) -> tuple[Windows, Tensor]:
    """Some windows by their numbers in ascending order, ``(some,)``, and which of the targets are theirs."""
    number = torch.full_like(windows.row, -1).index_copy(0, chosen, torch.arange(len(chosen), device=chosen.device))
    targets = (number[windows.of_target] >= 0).nonzero().squeeze(1)
    row, start, n_items = (field[chosen] for field in windows[:3])
    return Windows(row, start, n_items, number[windows.of_target[targets]], windows.items_before[targets]), targets


def read_packed(
    base: PreTrainedModel,
    rows: PackedRows,
    before: Tensor | ReadInstruction,
    items: Tensor,
    response: Tensor,
    skips: bool,
) -> Tensor:
    """Run the base over packed rows and take the state that scores each target.

    Args:
        base: The base.
        rows: The layout.
        before: ``(tokens, hidden)`` instruction to put in front of every row, or what `read_instruction` made of it.
        items: ``(rows, items, hidden)`` projected items, right-padded.
        response: ``(tokens, hidden)``.
        skips: Whether the last layer computes only what is read, see [`only_where_read`].

    Returns:
        ``(targets, hidden)``.
    """
    vocabulary = torch.cat([items, response.expand(len(items), -1, -1)], dim=1)  # (rows, items + response, hidden)
    embeds = vocabulary.gather(1, rows.token.unsqueeze(-1).expand(-1, -1, vocabulary.shape[-1]))
    shared = isinstance(before, ReadInstruction)
    if isinstance(before, ReadInstruction):
        if not embeds.shape[1]:  # nothing follows the instruction
            return before.state.expand(len(rows.read), -1) + 0 * vocabulary.sum()  # what is trained has a gradient
        n_before = before.length
        cache = Cache(layers=[SharedLayer(*pair) for pair in before.keys_and_values])
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    else:
        n_before = len(before)
        embeds = torch.cat([before.expand(len(embeds), -1, -1), embeds], dim=1)
        arguments = {"use_cache": False}
    if rows.is_plain:
        slots = torch.arange(n_before + rows.token.shape[1], device=embeds.device)
        arguments["attention_mask"] = (slots < n_before + rows.length[:, None]).long()
    else:
        positions = n_before + rows.position
        if not shared:
            own = torch.arange(n_before, device=embeds.device).expand(len(embeds), -1)
            positions = torch.cat([own, positions], dim=1)
        arguments["position_ids"] = positions
        arguments["attention_mask"] = attention_masks(base, rows, n_before, shared, embeds.dtype)
    read = rows.read.clamp_min(0) if shared else n_before + rows.read
    with only_where_read(rows.row, read, embeds.shape[:2]) if skips else nullcontext():
        states = base(inputs_embeds=embeds, **arguments).last_hidden_state  # (rows, slots, hidden)
    states = states[rows.row, read]  # (targets, hidden)
    if not isinstance(before, ReadInstruction):
        return states
    return before.state.to(states.device).where(rows.read[:, None] < 0, states)


def check_packing(
    base: PreTrainedModel, instruction: Tensor, response: Tensor, n_items: int, n_targets: int, *, shared: bool
) -> Verdict:
    """Whether one row gives the states of all targets of a history.

    Two histories, of ``n_items`` and of one, are read packed and plainly.

    Args:
        base: The base.
        instruction: ``(tokens, hidden)``.
        response: ``(tokens, hidden)``, possibly empty.
        n_items: Items of the longest row.
        n_targets: Targets of the widest row: some bases depend on the place in a row, whatever the position.
        shared: Whether the rows share the instruction.
    """
    if not is_causal(base):
        return Verdict(False, f"{type(base).__name__} looks ahead", n_items, n_targets)
    if len(response) and "flash" in str(base.config.get_text_config()._attn_implementation):
        reason = "flash attention takes no mask of its own for each row; use sdpa, or an empty response"
        return Verdict(False, reason, n_items, n_targets)
    items = noise(base, 2, n_items)
    first = 0 if len(instruction) + len(response) else 1  # something must come before a target
    spread = torch.linspace(first, n_items, n_targets).long()
    preceding = torch.cat([spread, torch.arange(first, 2)]).to(items.device)
    rows = (torch.arange(len(preceding), device=items.device) >= len(spread)).long()
    last = len(spread) - 1  # all these targets are in the packed rows; a few of them are compared
    some = [*sorted({0, min(1, last), last // 2, max(last - 1, 0), last}), *range(len(spread), len(preceding))]
    alone = windows_of(rows[some], preceding[some], n_items, shared=False)
    together = windows_of(rows, preceding, n_items, shared=True)

    def plainly() -> Tensor:
        return read_rows(base, instruction, items[alone.row, : int(alone.n_items.max())], alone.n_items, response)

    def packed(skips: bool) -> Tensor:
        before = read_instruction(base, instruction) if shared else instruction
        own = items[together.row, : int(together.n_items.max())]
        return read_packed(base, pack_rows(together, len(response)), before, own, response, skips)[some]

    if not difference(base, plainly, lambda: packed(True)):
        return Verdict(True, "", n_items, n_targets, skips=True)
    reason = difference(base, plainly, lambda: packed(False))
    return Verdict(not reason, reason, n_items, n_targets)


def is_causal(base: PreTrainedModel) -> bool:
    """Whether a base looks only back: perturb the end of a sequence; the states at its beginning must not change.

    The perturbation is large, so that attention without much preference shows it too. The tolerance is for kernels that
    add in another order.
    """
    beginning, end, other_end = noise(base, 3, 4)
    sequences = torch.stack([torch.cat([beginning, end]), torch.cat([beginning, 30 * other_end])])  # (2, 8, hidden)
    mask = torch.ones(sequences.shape[:2], dtype=torch.long, device=sequences.device)
    with evaluation_mode(base), torch.autocast(sequences.device.type, enabled=False):
        states = base(inputs_embeds=sequences, attention_mask=mask, use_cache=False).last_hidden_state
    first, second = states[:, :4].detach().float()
    return bool((first - second).abs().max() <= (1e-5 if is_exact(base) else 1e-2) * first.abs().max())
