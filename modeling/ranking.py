"""From scores to a ranking: what may be recommended, the top of it, and the rank of a target."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .histories import FIRST_ITEM_ID, IGNORE_INDEX, PAD_ID, check_item_ids, known_items


class Recommendations(NamedTuple):
    """The best items of each row, best first.

    Attributes:
        scores: ``(batch, top_k)``; ``-inf`` where fewer items than ``top_k`` could be recommended.
        item_ids: ``(batch, top_k)`` item tokens; ``[PAD]`` in the same places.
    """

    scores: Tensor
    item_ids: Tensor


def check_no_nan(scores: Tensor) -> None:
    """Refuse scores that cannot be ranked.

    Raises:
        ValueError: If a score is NaN; it names the first row.
    """
    broken = scores.isnan().any(dim=1)
    if broken.any():
        raise ValueError(
            f"The scores of row {int(broken.nonzero()[0])} hold NaN: a ranking of them would mean nothing. "
            "Look for a learning rate that is too high, or float16 overflow in the base."
        )


def eligible_items(scores: Tensor, seen: Tensor | None = None, candidates: Tensor | None = None) -> Tensor:
    """Which items may stand in the ranking of each row.

    Args:
        scores: ``(batch, vocab)``.
        seen: ``(batch, any)`` item ids to hide.
        candidates: ``(batch, any)`` item ids to choose from; ``None`` is the whole catalogue.

    Returns:
        ``(batch, vocab)`` booleans, false for the special tokens.
    """
    if candidates is None:
        eligible = torch.ones_like(scores, dtype=torch.bool)
    else:
        eligible = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, candidates, True)
    if seen is not None:
        eligible.scatter_(1, seen, False)
    eligible[:, :FIRST_ITEM_ID] = False
    return eligible


def target_ranks(
    scores: Tensor, targets: Tensor, *, seen: Tensor | None = None, candidates: Tensor | None = None
) -> Tensor:
    """Rank of each target among the eligible items, 1 is best. Ties count against the target.

    Args:
        scores: ``(batch, vocab)``.
        targets: ``(batch,)`` item ids.
        seen: ``(batch, any)`` item ids to hide. A target among them is a certain miss.
        candidates: ``(batch, any)`` negatives that the target is ranked among; ``None`` is the whole catalogue.

    Returns:
        ``(batch,)`` float32; ``inf`` for a target that is hidden.

    Raises:
        ValueError: If a score is NaN.
    """
    check_no_nan(scores)
    column = targets[:, None]
    if candidates is not None:
        candidates = torch.cat([candidates, column], dim=1)
    eligible = eligible_items(scores, seen, candidates)
    ahead = eligible & (scores >= scores.gather(1, column))
    ranks = 1 + ahead.scatter(1, column, False).sum(dim=1).float()  # exact up to 2**24 items
    return ranks.masked_fill(~eligible.gather(1, column).squeeze(1), torch.inf)


class RecommendMixin(PreTrainedModel):
    """``recommend`` for a model whose ``forward`` without labels scores the next item, ``(batch, vocab)``."""

    @torch.no_grad()
    def recommend(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        top_k: int = 10,
        exclude_seen: bool = True,
        candidates: Tensor | Sequence[int] | None = None,
    ) -> Recommendations:
        """The ``top_k`` items that come next, dropout switched off.

        Args:
            input_ids: ``(batch, seq)`` histories as the item tokenizer makes them.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            top_k: How many items a row.
            exclude_seen: Whether the items of the history are hidden, also those before the last ``max_history``.
            candidates: Item ids to choose from, ``(any,)`` for all rows or ``(batch, any)``; ``None`` is the whole
                catalogue. ``[PAD]`` among them is passed over.

        Returns:
            [`Recommendations`]: scores and item ids, both ``(batch, top_k)``.

        Raises:
            ValueError: If ``top_k`` is not between 1 and the size of the catalogue, an id is outside the vocabulary,
                or a score is NaN.
        """
        catalogue = self.config.vocab_size - FIRST_ITEM_ID
        if not 1 <= top_k <= catalogue:
            raise ValueError(f"top_k must be between 1 and the {catalogue} items of the catalogue, not {top_k}")
        was_training = self.training
        self.eval()
        try:
            scores = self(input_ids=input_ids, attention_mask=attention_mask).logits  # (batch, vocab)
        finally:
            self.train(was_training)
        check_no_nan(scores)
        seen = None
        if exclude_seen:
            seen = input_ids.masked_fill(~known_items(input_ids, attention_mask), PAD_ID).to(scores.device)
        if candidates is not None:
            candidates = torch.as_tensor(candidates, device=scores.device).expand(len(scores), -1)
            check_item_ids(candidates, self.config.vocab_size, "candidates")
        best = scores.masked_fill(~eligible_items(scores, seen, candidates), -torch.inf).topk(top_k, dim=1)
        return Recommendations(best.values, best.indices.masked_fill(best.values == -torch.inf, PAD_ID))


def scoring_precision(training: bool, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast of the trainer while training; none when ranking."""
    return nullcontext() if training else torch.autocast(device.type, enabled=False)


def cross_entropy_of_targets(logits: Tensor, targets: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    """Mean cross-entropy over the targets, or their sum over ``num_items_in_batch`` under gradient accumulation.

    Args:
        logits: ``(targets, vocab)``.
        targets: ``(targets,)`` item ids.
        num_items_in_batch: The number of targets of all accumulated batches, as the `Trainer` hands it over.
    """
    total = torch.nn.functional.cross_entropy(
        logits.float(), targets, reduction="sum", ignore_index=IGNORE_INDEX
    )  # no targets: a zero that still has gradients
    return total / (max(len(targets), 1) if num_items_in_batch is None else num_items_in_batch)
