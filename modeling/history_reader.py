"""The reader of a model: it knows what its base can do, and keeps what the base made of the instruction."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from .bases import lora_layers
from .packing import Segments, groups_of_similar_length, pack_rows, segments_of
from .probing import Verdict, packs_targets, shares_instruction, skips_unread
from .reading import ReadInstruction, read_instruction, read_targets

#: A base is probed with rows of so many items, and again when longer ones come.
ITEMS_TO_PROBE = 64
#: Below so many slots a pass costs more than the padding it saves.
SLOTS_WORTH_A_PASS = {"cpu": 256, "accelerator": 4096}

logger = logging.get_logger(__name__)


class Task(NamedTuple):
    """What a base is to read: with its prompt, rows no wider than these.

    Attributes:
        base: The base.
        prompt: ``(tokens, hidden)`` instruction and response.
        max_history: How many items a row may have at most.
        n_items: Items of the longest row.
        n_targets: Targets of the row with most of them.
    """

    base: PreTrainedModel
    prompt: tuple[Tensor, Tensor]
    max_history: int
    n_items: int = 0
    n_targets: int = 0


class HistoryReader:
    """Reads histories in as few passes over as few tokens as the base allows, and never in a way that it gets wrong.

    Attributes:
        plain: Whether to read every target in a row of its own, instruction and all, padded to the longest, as the
            reference code does: to compare with.
    """

    def __init__(self) -> None:
        self.plain = False
        self._verdicts: dict[Any, Verdict] = {}
        self._kept: tuple[Tensor, Any, ReadInstruction] | None = None

    def read(
        self,
        base: PreTrainedModel,
        prompt: tuple[Tensor, Tensor],
        ids: Tensor,
        lift: Callable[[Tensor], Tensor],
        rows: Tensor,
        preceding: Tensor,
        max_history: int,
    ) -> Tensor:
        """The hidden state that scores each target.

        Args:
            base: The base.
            prompt: ``(tokens, hidden)`` instruction and response.
            ids: ``(batch, seq)`` right-padded ids of known items.
            lift: Takes ids to vectors of the base's width and dtype.
            rows: ``(targets,)`` row of each target, in ascending order.
            preceding: ``(targets,)`` number of known items before it, ascending within a row.
            max_history: How many of them count: the last ones.

        Returns:
            ``(targets, hidden)``.
        """
        if not len(rows):  # what is trained gets a gradient all the same: other processes may wait for it
            nothing = ids.new_zeros(1, 1)
            return self.read(base, prompt, nothing, lift, nothing[0], nothing[0] + 1, max_history)[:0]
        instruction, response = prompt
        segments = segments_of(rows, preceding, max_history)
        one_each = len(segments.row) == len(rows)  # nothing to share
        task = Task(base, prompt, max_history, int(segments.n_items.max()), most_targets(segments))
        if not one_each and (self.plain or not self.packing(task).passed):
            one_each = True
            segments = segments_of(rows, preceding, max_history, one_each=True)
            task = task._replace(n_targets=1)
        before: Tensor | ReadInstruction = instruction
        # checkpointing takes the cache away from the layers, and runs them again later
        checkpointing = base.training and any(getattr(m, "gradient_checkpointing", False) for m in base.modules())
        in_full = self.plain or checkpointing
        if not in_full and len(instruction) and self.sharing(task).passed:
            before = self._read_instruction(base, instruction)
        shared = before is not instruction
        skip_unread = not in_full and self._skipping(task, shared=shared, packed=not one_each).passed
        n_before = 0 if shared else len(instruction)
        lengths = n_before + segments.n_items + len(response) * torch.bincount(segments.of_target)
        states, places = [], []
        enough = SLOTS_WORTH_A_PASS["cpu" if ids.device.type == "cpu" else "accelerator"]
        groups = [list(range(len(lengths)))] if self.plain else groups_of_similar_length(lengths.tolist(), enough)
        for group in groups:
            part, targets = segments.select(torch.tensor(group, device=rows.device, dtype=torch.long))
            vectors = lift(part.item_ids(ids))
            layout = pack_rows(part, len(response))
            states.append(read_targets(base, layout, before, vectors, response, skip_unread=skip_unread))
            places.append(targets)
        return torch.cat(states)[torch.cat(places).argsort()]

    def packing(self, task: Task) -> Verdict:
        """Whether all targets of a history can be read in one pass; a warning where not."""
        shared = len(task.prompt[0]) > 0 and self.sharing(task).passed

        def probe(n_items: int, n_targets: int) -> Verdict:
            return packs_targets(task.base, *task.prompt, n_items, n_targets, shared=shared)

        return self._verdict(
            ("packing", shared),
            task,
            probe,
            logging.WARNING,
            "Each target is read in a row of its own, which takes much longer",
        )

    def sharing(self, task: Task) -> Verdict:
        """Whether the instruction can run once for all rows."""

        def probe(n_items: int, n_targets: int) -> Verdict:
            return shares_instruction(task.base, *task.prompt, n_items)

        task = task._replace(n_targets=0)  # whatever their number
        return self._verdict("sharing", task, probe, logging.INFO, "The instruction is read again in each row")

    def _skipping(self, task: Task, *, shared: bool, packed: bool) -> Verdict:
        """Whether the last layer can leave out what is not read, where rows are read in such a way."""

        def probe(n_items: int, n_targets: int) -> Verdict:
            return skips_unread(task.base, *task.prompt, n_items, n_targets, shared=shared, packed=packed)

        return self._verdict(
            ("skipping", shared, packed), task, probe, logging.INFO, "The last layer works on all tokens"
        )

    def _verdict(
        self, question: Any, task: Task, probe: Callable[[int, int], Verdict], level: int, otherwise: str
    ) -> Verdict:
        """A verdict on the base as it is, probed where there is none yet or only one on rows that are less wide.

        Args:
            question: What is asked.
            task: About which rows.
            probe: Takes items and targets of the widest row to a verdict.
            level: How loudly to say, once,
            otherwise: what happens where the base does not pass.
        """
        config, n_prompt = task.base.config.get_text_config(), sum(map(len, task.prompt))
        like = task.prompt[0]
        key = (question, config._attn_implementation, like.dtype, like.device, *map(len, task.prompt))
        verdict = self._verdicts.get(key)
        if verdict is None or (
            verdict.passed and (verdict.n_items < task.n_items or verdict.n_targets < task.n_targets)
        ):
            # a new one has to do for what the old one did for
            longest = max(task.n_items, verdict.n_items if verdict else 0)
            n_items = ITEMS_TO_PROBE
            while n_items < longest:
                n_items *= 2
            places = getattr(config, "max_position_embeddings", None) or task.max_history + n_prompt
            n_items = max(min(n_items, task.max_history, places - n_prompt), longest)
            verdict = probe(n_items, max(n_items + 1, task.n_targets, verdict.n_targets if verdict else 0))
            self._verdicts[key] = verdict
            if not verdict.passed:
                logger.log(level, f"{otherwise}: {verdict.reason}.")
        return verdict

    def _read_instruction(self, base: PreTrainedModel, tokens: Tensor) -> ReadInstruction:
        """As [`read_instruction`], kept between calls that take no gradients until anything about it changes."""
        if base.training or torch.is_grad_enabled():
            self._kept = None
            return read_instruction(base, tokens)
        state = state_of(base, tokens.device.type)
        kept = self._kept  # another thread may put its own there meanwhile
        if kept is None or kept[1] != state or not same_tensor(kept[0], tokens):
            kept = self._kept = tokens, state, read_instruction(base, tokens)
        return kept[2]


def most_targets(segments: Segments) -> int:
    """Targets of the segment with most of them."""
    return int(torch.bincount(segments.of_target).max())


def same_tensor(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same in all that matters here."""
    return (one.dtype, one.device, one.shape) == (other.dtype, other.device, other.shape) and torch.equal(one, other)


def state_of(base: PreTrainedModel, device: str) -> Any:
    """Something that changes whenever the base would read the same tokens otherwise.

    Weights are told by place, dtype, device and version; those that are trained by their sum as well, for torch does
    not count edits through ``.data``. Such edits go unseen where they keep the sum, or are of frozen weights.
    """
    settings = (
        base.config.get_text_config()._attn_implementation,
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
    )
    layers = [
        (tuple(layer.merged_adapters), layer.disable_adapters, tuple(layer.active_adapters), dict(layer.scaling))  # type: ignore[attr-defined]
        for _, layer in lora_layers(base)
    ]
    weights = [
        (tensor.data_ptr(), None if tensor.is_inference() else tensor._version, tensor.dtype, tensor.device)
        for tensor in (*base.parameters(), *base.buffers())
    ]
    wide = torch.float32 if device == "mps" else torch.float64
    sums: dict[torch.device, list[Tensor]] = {}  # one transfer a device
    for name, tensor in base.named_parameters():
        if tensor.requires_grad or ".lora_" in name:
            sums.setdefault(tensor.device, []).append(tensor.detach().sum(dtype=wide))
    return settings, layers, weights, [torch.stack(part).tolist() for part in sums.values()]
