"""What a base can do, found out on the base itself: no list of architectures, a numerical comparison.

Reading a history once for all its targets ([`packing`]) is exact for causal transformers that take a mask and
positions. Bidirectional encoders, ALiBi, state-space and hybrid layers, flash attention: there it is not, and some say
nothing and give other numbers. So random vectors go through the base both ways before anything rests on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .bases import text_embeddings
from .evaluation_mode import evaluation_mode
from .packing import PackedRows, pack_rows, segments_of
from .reading import ReadInstruction, read_instruction, read_targets

#: What an error says that is about memory and not about the base.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


class Verdict(NamedTuple):
    """Whether a base passed a probe.

    Attributes:
        passed: Whether the numbers were the same.
        reason: Why not; empty where it passed.
        n_items: With how many items in a row that was found out.
        n_targets: With how many targets in a row.
    """

    passed: bool
    reason: str
    n_items: int
    n_targets: int


@contextmanager
def _undisturbed(base: PreTrainedModel) -> Iterator[None]:
    """Without dropout or the trainer's autocast."""
    with evaluation_mode(base), torch.autocast(text_embeddings(base).weight.device.type, enabled=False):
        yield


def _noise(base: PreTrainedModel, *shape: int) -> Tensor:
    """Random vectors as large as token embeddings, drawn without touching the caller's random state.

    They take gradients where the caller does: bitsandbytes rearranges the weights of a 4-bit base on a CPU for good in
    the first pass without.
    """
    weight = text_embeddings(base).weight
    noise = torch.randn(*shape, weight.shape[1], generator=torch.Generator().manual_seed(0))
    noise = (noise * weight[:1024].detach().float().std().cpu()).to(weight)
    return noise.requires_grad_(torch.is_grad_enabled())


def _is_exact(base: PreTrainedModel) -> bool:
    """Whether a base computes in float32 proper."""
    try:
        highest = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by the newer torch.backends.fp32_precision, as the trainer's tf32=True does
        highest = False
    quantized = getattr(base, "is_quantized", False)
    return highest and not quantized and text_embeddings(base).weight.dtype == torch.float32


def is_causal(base: PreTrainedModel) -> bool:
    """Whether a base looks only back, found out by shouting at the end of a sequence and listening at its beginning.

    The noise behind the first half is large, so that attention which has hardly any preference yet shows it too. A
    causal base gives the first half the same states; the tolerance is for kernels that add in another order.
    """
    quiet, quiet_end, loud_end = _noise(base, 3, 4)
    sequences = torch.stack([torch.cat([quiet, quiet_end]), torch.cat([quiet, 30 * loud_end])])  # (2, 8, hidden)
    mask = torch.ones(sequences.shape[:2], dtype=torch.long, device=sequences.device)
    with _undisturbed(base):
        states = base(inputs_embeds=sequences, attention_mask=mask, use_cache=False).last_hidden_state
    first, second = states[:, :4].detach().float()
    return bool((first - second).abs().max() <= (1e-5 if _is_exact(base) else 1e-2) * first.abs().max())


def shares_instruction(base: PreTrainedModel, instruction: Tensor, response: Tensor, n_items: int) -> Verdict:
    """Whether the instruction can run once, and every row look at its keys and values.

    Args:
        base: The base.
        instruction: ``(tokens, hidden)``.
        response: ``(tokens, hidden)``, possibly none.
        n_items: Items of the longest row to try.
    """
    return _compare(base, instruction, response, n_items, n_items + 1, shared=True, packed=False, skip=False)


def skips_unread(
    base: PreTrainedModel,
    instruction: Tensor,
    response: Tensor,
    n_items: int,
    n_targets: int,
    *,
    shared: bool,
    packed: bool,
) -> Verdict:
    """Whether the last layer may leave out what no target is read from.

    Args: as for [`packs_targets`]; whether rows are packed is said besides.
    """
    return _compare(base, instruction, response, n_items, n_targets, shared=shared, packed=packed, skip=True)


def packs_targets(
    base: PreTrainedModel, instruction: Tensor, response: Tensor, n_items: int, n_targets: int, *, shared: bool
) -> Verdict:
    """Whether one row gives the states of all targets of a history. The instruction stands in each row, or is shared.

    Args: as for [`shares_instruction`], and
        n_targets: Targets of the widest row to try: some bases go by the place in a row, whatever its position.
    """
    if not is_causal(base):
        return Verdict(False, f"{type(base).__name__} looks ahead", n_items, n_targets)
    if len(response) and "flash" in str(base.config._attn_implementation):
        reason = "flash attention takes no mask of its own for each row; sdpa does, and so does an empty response"
        return Verdict(False, reason, n_items, n_targets)
    verdict = _compare(base, instruction, response, n_items, n_targets, shared=False, packed=True, skip=False)
    if verdict.passed and shared:
        verdict = _compare(base, instruction, response, n_items, n_targets, shared=True, packed=True, skip=False)
    return verdict


def _compare(
    base: PreTrainedModel,
    instruction: Tensor,
    response: Tensor,
    n_items: int,
    n_targets: int,
    *,
    shared: bool,
    packed: bool,
    skip: bool,
) -> Verdict:
    """Read two histories, of ``n_items`` and of one, in the way that is asked for, and plainly."""
    items = _noise(base, 2, n_items)
    first = 0 if len(instruction) + len(response) else 1  # something must stand before a target
    spread = torch.linspace(first, n_items, n_targets).long()
    preceding = torch.cat([spread, torch.arange(first, 2)]).to(items.device)
    rows = (torch.arange(len(preceding), device=items.device) >= len(spread)).long()
    # all these targets stand in the packed rows; a few of them are compared
    last = len(spread) - 1
    some = [*sorted({0, min(1, last), last // 2, max(last - 1, 0), last}), *range(len(spread), len(preceding))]
    if not packed:
        rows, preceding, some = rows[some], preceding[some], list(range(len(some)))

    def layout(rows: Tensor, preceding: Tensor, one_each: bool) -> tuple[PackedRows, Tensor]:
        segments = segments_of(rows, preceding, n_items, one_each=one_each)
        return pack_rows(segments, len(response)), items[segments.row, : int(segments.n_items.max())]

    def read(layout: PackedRows, items: Tensor, before: Tensor | ReadInstruction, skip: bool) -> Tensor:
        return read_targets(base, layout, before, items, response, skip_unread=skip).detach().float()

    with _undisturbed(base):
        expected = read(*layout(rows[some], preceding[some], True), instruction, False)
        asked = layout(rows, preceding, not packed)
        try:
            found = read(*asked, read_instruction(base, instruction) if shared else instruction, skip)[some]
        except Exception as error:  # whatever it is that the base says, it cannot do it
            if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
                raise
            reason = f"{type(base).__name__} refuses: {type(error).__name__}: {error}"
            return Verdict(False, reason, n_items, n_targets)
    distance = float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())
    if distance <= (1e-4 if _is_exact(base) else 5e-2):
        return Verdict(True, "", n_items, n_targets)
    return Verdict(False, f"{type(base).__name__} gives other states: {distance:.1e} off", n_items, n_targets)
