"""What both models can do once they have a vector for a history: loss, ranks, recommendations."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .evaluation_mode import evaluation_mode
from .histories import FIRST_ITEM_ID, PAD_ID, check_item_ids, known_items, pack_right_padded
from .losses import catalogue_cross_entropy
from .ranking import Recommendations, ScoreChunks, best_items, catalogue_scores, target_ranks


def mean_over_targets(total: Tensor, n_targets: int, num_items_in_batch: Tensor | int | None) -> Tensor:
    """A sum over targets by the number of targets of all accumulated batches, where the `Trainer` gives it.

    Where there is no target at all it is zero, and not NaN, which would spoil every weight.
    """
    return total / torch.as_tensor(n_targets if num_items_in_batch is None else num_items_in_batch).clamp_min(1)


class Recommender(PreTrainedModel):
    """Loss, ranks and recommendations of a model that scores the catalogue by a product of vectors.

    A model says how it reads a history (``next_item_vectors``) and what stands for the items (``catalogue``).
    """

    @property
    def scores_first_item(self) -> bool:
        """Whether the first item of a history can be predicted, from a prompt."""
        raise NotImplementedError

    @property
    def catalogue(self) -> Tensor:
        """``(vocab, width)`` one vector an item: a score is its product with the vector of a history."""
        raise NotImplementedError

    @property
    def catalogue_parts(self) -> tuple[Tensor, ...]:
        """The catalogue in the parts that it grew by, which are scored one by one: see `grown_from` of the config."""
        return self.catalogue.tensor_split(self.config.grown_from)

    @property
    def retired(self) -> Tensor | None:
        """``(any,)`` ids of the items that are never recommended."""
        ids = self.config.retired_items
        return torch.tensor(ids, device=self.catalogue.device) if ids else None

    def next_item_vectors(self, items: Tensor, n_items: Tensor) -> Tensor:
        """Vectors for what comes after each history.

        Args:
            items: ``(rows, items)`` right-padded ids of known items.
            n_items: ``(rows,)`` how many of them count.

        Returns:
            ``(rows, width)``.
        """
        raise NotImplementedError

    def _known_history(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Right-padded known items and their numbers, checked."""
        check_item_ids(input_ids, self.config.vocab_size, "input_ids")
        known = known_items(input_ids, attention_mask)
        items, n_items = pack_right_padded(input_ids.masked_fill(~known, PAD_ID), known)
        if not self.scores_first_item and (empty := n_items == 0).any():
            row = int(empty.nonzero()[0])
            raise ValueError(f"Row {row} has no known item, and there is no prompt: nothing to read.")
        return items, n_items

    def _cross_entropy(
        self, vectors: Tensor, targets: Tensor, num_items_in_batch: Tensor | int | None
    ) -> CausalLMOutput:
        """Mean over the targets, or their sum over ``num_items_in_batch``. While training there are no logits."""
        logits = None if self.training else catalogue_scores(vectors, self.catalogue_parts)  # (targets, vocab)
        if logits is None:
            total = catalogue_cross_entropy(vectors, self.catalogue, targets)
        else:
            total = F.cross_entropy(logits, targets, reduction="sum")  # of no targets: a zero that still has gradients
        loss = mean_over_targets(total, len(targets), num_items_in_batch)
        return CausalLMOutput(loss=loss, logits=logits)  # type: ignore[arg-type]

    @torch.no_grad()
    def target_ranks(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        targets: Tensor,
        *,
        exclude_seen: bool = True,
        candidates: Tensor | None = None,
    ) -> Tensor:
        """Rank of each row's target after its history, as [`target_ranks`], dropout switched off.

        Args:
            input_ids: ``(batch, seq)`` histories.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            targets: ``(batch,)`` item ids.
            exclude_seen: Whether the items of the history are hidden, also those before the last ``max_history``.
            candidates: ``(batch, any)`` negatives that the target is ranked among; ``None`` is the whole catalogue.

        Returns:
            ``(batch,)`` ranks, float32.
        """
        items, n_items = self._known_history(input_ids, attention_mask)
        with evaluation_mode(self):
            chunks = ScoreChunks(self.next_item_vectors(items, n_items), self.catalogue_parts)
        seen = items if exclude_seen else None
        return target_ranks(chunks, targets, seen=seen, candidates=candidates, retired=self.retired)

    @torch.no_grad()
    def recommend(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        top_k: int = 10,
        exclude_seen: bool = True,
        candidates: Tensor | Sequence[int] | None = None,
        batch_size: int = 256,
    ) -> Recommendations:
        """The ``top_k`` items that come next, dropout switched off. Retired ones never do.

        Several threads may ask a model in evaluation mode at once.

        Args:
            input_ids: ``(batch, seq)`` histories as the item tokenizer makes them, as many as you like.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            top_k: How many items a row.
            exclude_seen: Whether the items of the history are hidden, also those before the last ``max_history``.
            candidates: Item ids to choose from, ``(any,)`` for all rows or ``(batch, any)``; ``None`` is the whole
                catalogue. ``[PAD]`` among them is passed over.
            batch_size: Histories that are read at a time; they are sorted by length, the longest first.

        Returns:
            [`Recommendations`]: scores and item ids, both ``(batch, top_k)``.

        Raises:
            ValueError: If ``top_k`` is not between 1 and the size of the catalogue, ``batch_size`` is below 1, an id
                is no whole number or outside the vocabulary, or a score is NaN.
        """
        size = self.config.vocab_size - FIRST_ITEM_ID
        if not 1 <= top_k <= size:
            raise ValueError(f"top_k must be between 1 and the {size} items of the catalogue, not {top_k}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        items, n_items = self._known_history(input_ids, attention_mask)
        if candidates is not None:
            candidates = torch.as_tensor(candidates, device=items.device)
            if candidates.numel() and (candidates.is_floating_point() or candidates.dtype == torch.bool):
                raise ValueError(f"candidates must be item ids, whole numbers, not {candidates.dtype}")
            candidates = candidates.long().expand(len(items), -1)
            check_item_ids(candidates, self.config.vocab_size, "candidates")
        parts = n_items.argsort(descending=True, stable=True).split(batch_size)
        with evaluation_mode(self):
            best = [self._recommend(items, n_items, part, top_k, exclude_seen, candidates) for part in parts]
        back = torch.cat(parts).argsort()
        return Recommendations(*(torch.cat(part)[back] for part in zip(*best, strict=True)))

    def _recommend(
        self,
        items: Tensor,
        n_items: Tensor,
        rows: Tensor,
        top_k: int,
        exclude_seen: bool,
        candidates: Tensor | None,
    ) -> Recommendations:
        """Recommendations for some rows of a batch."""
        n_items = n_items[rows]
        items = items[rows, : int(n_items.max()) if len(rows) else 0]
        return best_items(
            ScoreChunks(self.next_item_vectors(items, n_items), self.catalogue_parts),
            top_k,
            seen=items if exclude_seen else None,
            candidates=None if candidates is None else candidates[rows],
            retired=self.retired,
        )
