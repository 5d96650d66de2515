"""What both models can do once they have a vector for a history: loss, scores and recommendations."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput

from .histories import FIRST_ITEM_ID, PAD_ID, check_item_ids, known_items, pack_right_padded
from .ranking import Recommendations, best_items, catalogue_scores, score_chunks
from .saving import AtomicSaveMixin


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch off dropout in every part of a model, and restore the mode of each part afterwards."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Recommender(AtomicSaveMixin):
    """Loss, scores and recommendations of a model that scores each item by a product of two vectors.

    A model defines the following.

    Attributes:
        scoring_vectors: ``(vocab, width)`` one vector an item: its product with the vector of a history is the score.
        scores_first_item: Whether the first item of a history can be predicted, from a prompt.
        training_loss: Takes model, vectors, targets and seen items to the sum of the losses; set by the training code
            of ``e4srec_hf``. Without it, the scores of all targets are held at once.
    """

    scoring_vectors: Tensor
    scores_first_item: bool
    training_loss: Any = None

    @property
    def scoring_parts(self) -> tuple[Tensor, ...]:
        """The scoring vectors in the parts that the catalogue grew by: see `grown_from` of the config."""
        return self.scoring_vectors.tensor_split(self.config.grown_from)

    @property
    def retired(self) -> Tensor | None:
        """``(any,)`` ids of the items that are never recommended."""
        ids = self.config.retired_items
        return torch.tensor(ids, device=self.scoring_vectors.device) if ids else None

    def history_vectors(self, items: Tensor, n_items: Tensor) -> Tensor:
        """Vectors of whole histories: ``(rows, items)`` right-padded ids and their numbers to ``(rows, width)``."""
        raise NotImplementedError

    def kept_instruction(self) -> AbstractContextManager[Any]:
        """A context in which a model with an instruction reads it only once."""
        return nullcontext()

    def known_histories(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Checked ``(batch, seq)`` ids to ``(batch, longest)`` right-padded known items and their numbers ``(batch,)``.

        Raises:
            ValueError: If an id is outside the vocabulary, or a row has neither a known item nor a prompt.
        """
        check_item_ids(input_ids, self.config.vocab_size, "input_ids")
        known = known_items(input_ids, attention_mask)
        items, n_items = pack_right_padded(input_ids.masked_fill(~known, PAD_ID), known)
        if not self.scores_first_item and (empty := n_items == 0).any():
            row = int(empty.nonzero()[0])
            raise ValueError(f"Row {row} has no known item, and there is no prompt: nothing to read.")
        return items, n_items

    def _output(
        self, vectors: Tensor, targets: Tensor, seen: Tensor | None, num_items_in_batch: Tensor | int | None
    ) -> CausalLMOutput:
        """The mean loss over ``(targets,)`` ids, or its sum over ``num_items_in_batch``. While training, no logits.

        ``vectors`` are ``(targets, width)``, and ``seen`` the ``(targets, any)`` ids not to sample as negatives.
        """
        logits = None if self.training else catalogue_scores(vectors, self.scoring_parts)  # (targets, vocab)
        samples_negatives = getattr(self.config, "loss", "ce") != "ce"
        if samples_negatives and self.training_loss is None:
            if self.training:
                raise RuntimeError(f"The loss {self.config.loss!r} is in e4srec_hf: call prepare_for_training(model).")
            return CausalLMOutput(logits=logits)  # type: ignore[arg-type]
        if self.training_loss is not None and (self.training or samples_negatives):
            total = self.training_loss(self, vectors, targets, seen)
        else:
            scores = catalogue_scores(vectors, self.scoring_parts) if logits is None else logits
            total = F.cross_entropy(scores, targets, reduction="sum")
        n_targets = torch.as_tensor(len(targets) if num_items_in_batch is None else num_items_in_batch)
        # without any target the loss is zero, and not NaN, which would spoil every weight
        return CausalLMOutput(loss=total / n_targets.clamp_min(1), logits=logits)  # type: ignore[arg-type]

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
        """The ``top_k`` items that come next, with dropout switched off. Retired items are never among them.

        Args:
            input_ids: ``(batch, seq)`` histories as the item tokenizer makes them; ``batch`` may be large.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            top_k: How many items a row.
            exclude_seen: Whether to hide the items of the history, also those before the last ``max_history``.
            candidates: Item ids to choose from, ``(any,)`` for all rows or ``(batch, any)``; ``None`` is the whole
                catalogue. ``[PAD]`` among them is ignored.
            batch_size: Histories that are read at a time, sorted by length.

        Returns:
            Scores and item ids, both ``(batch, top_k)``. Several threads may ask a model in evaluation mode at once.

        Raises:
            ValueError: If ``top_k``, ``batch_size`` or an item id is none that there can be, or a score is NaN.
        """
        size = self.config.vocab_size - FIRST_ITEM_ID
        if not 1 <= top_k <= size:
            raise ValueError(f"top_k must be between 1 and the {size} items of the catalogue, not {top_k}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        items, n_items = self.known_histories(input_ids, attention_mask)
        if candidates is not None:
            try:
                candidates = torch.as_tensor(candidates, device=items.device).expand(len(items), -1)
            except (TypeError, ValueError, RuntimeError, OverflowError) as error:
                raise ValueError(f"candidates must be item ids, (any,) or (batch, any): {error}") from error
            is_whole = candidates.dtype != torch.bool and torch.can_cast(candidates.dtype, torch.long)
            if candidates.numel() and not is_whole:
                raise ValueError(f"candidates must be item ids, whole numbers, not {candidates.dtype}")
            candidates = candidates.long()
            check_item_ids(candidates, self.config.vocab_size, "candidates")
        parts = n_items.argsort(descending=True, stable=True).split(batch_size) if len(items) > 1 else [slice(None)]
        best = []
        with evaluation_mode(self), self.kept_instruction():
            for rows in parts:
                some = items[rows, : int(n_items[rows].max()) if len(items) else 0]
                chunks = score_chunks(self.history_vectors(some, n_items[rows]), self.scoring_parts)
                chosen = None if candidates is None else candidates[rows]
                seen = some if exclude_seen else None
                best.append(best_items(chunks, top_k, seen=seen, candidates=chosen, retired=self.retired))
        if len(items) <= 1:
            return best[0]
        back = torch.cat(parts).argsort()  # type: ignore[arg-type]
        return Recommendations(*(torch.cat(part)[back] for part in zip(*best, strict=True)))
