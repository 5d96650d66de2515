"""From scores to a ranking: the best items, and the rank of a target, a chunk of the catalogue at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .histories import FIRST_ITEM_ID, PAD_ID, check_item_ids, known_items, pack_right_padded
from .losses import catalogue_cross_entropy

#: Scores that are held at a time when ranking (64 MiB in float32).
SCORES_AT_A_TIME = 2**24


class Recommendations(NamedTuple):
    """The best items of each row, best first.

    Attributes:
        scores: ``(batch, top_k)``; ``-inf`` where fewer items than ``top_k`` could be recommended.
        item_ids: ``(batch, top_k)`` item tokens; ``[PAD]`` in the same places.
    """

    scores: Tensor
    item_ids: Tensor


class ScoreChunks(Sequence[tuple[int, Tensor]]):
    """The scores ``vectors @ catalogue.T``, a chunk of the catalogue at a time, in float32.

    In half precision items tie, and a tie says nothing about which is better.

    Args:
        vectors: ``(rows, width)``.
        catalogue: ``(vocab, width)``.
    """

    def __init__(self, vectors: Tensor, catalogue: Tensor) -> None:
        self.vectors, self.catalogue = vectors.float(), catalogue
        self.chunk = max(SCORES_AT_A_TIME // max(len(vectors), 1), 1)

    def __len__(self) -> int:
        return -(-len(self.catalogue) // self.chunk)

    def __getitem__(self, index: Any) -> Any:
        """First item id and ``(rows, chunk)`` scores of one chunk."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * self.chunk
        return first, catalogue_scores(self.vectors, self.catalogue[first : first + self.chunk])


def catalogue_scores(vectors: Tensor, catalogue: Tensor) -> Tensor:
    """``(rows, width)`` and ``(vocab, width)`` to ``(rows, vocab)`` scores in float32, under autocast too."""
    with torch.autocast(vectors.device.type, enabled=False):
        return vectors.float() @ catalogue.float().T


def check_no_nan(scores: Tensor) -> None:
    """Refuse scores that cannot be ranked.

    Raises:
        ValueError: If a score is NaN.
    """
    broken = scores.isnan().any(dim=1)
    if broken.any():
        raise ValueError(
            f"The scores of {int(broken.sum())} of {len(scores)} histories hold NaN: a ranking of them would mean "
            "nothing. Look for a learning rate that is too high, or float16 overflow in the base."
        )


def eligible_items(first: int, scores: Tensor, seen: Tensor | None, candidates: Tensor | None) -> Tensor:
    """Which items of a chunk may stand in the ranking of each row.

    Args:
        first: Id of the first item of the chunk.
        scores: ``(rows, chunk)``.
        seen: ``(rows, any)`` item ids to hide.
        candidates: ``(rows, any)`` item ids to choose from; ``None`` is the whole catalogue.

    Returns:
        ``(rows, chunk)`` booleans, false for the special tokens.
    """
    size = scores.shape[1]

    def places(ids: Tensor) -> Tensor:  # what is outside the chunk goes to a place behind it
        return (ids - first).where((ids >= first) & (ids < first + size), size)

    eligible = torch.full((len(scores), size + 1), candidates is None, device=scores.device)
    if candidates is not None:
        eligible.scatter_(1, places(candidates), True)
    if seen is not None:
        eligible.scatter_(1, places(seen), False)
    eligible[:, : max(FIRST_ITEM_ID - first, 0)] = False
    return eligible[:, :size]


def best_items(
    chunks: Sequence[tuple[int, Tensor]], top_k: int, *, seen: Tensor | None = None, candidates: Tensor | None = None
) -> Recommendations:
    """The best ``top_k`` eligible items of each row.

    Args:
        chunks: First item id and ``(rows, chunk)`` scores of each chunk.
        top_k: How many.
        seen: ``(rows, any)`` item ids to hide.
        candidates: ``(rows, any)`` item ids to choose from; ``None`` is the whole catalogue.

    Raises:
        ValueError: If a score is NaN.
    """
    best: list[tuple[Tensor, Tensor]] = []
    for first, scores in chunks:
        check_no_nan(scores)
        scores = scores.masked_fill(~eligible_items(first, scores, seen, candidates), -torch.inf)
        values, places = scores.topk(min(top_k, scores.shape[1]), dim=1)
        values, ids = (torch.cat(part, dim=1) for part in zip(*best, (values, places + first), strict=True))
        values, places = values.topk(min(top_k, values.shape[1]), dim=1)
        best = [(values, ids.gather(1, places))]
    values, ids = best[0]
    return Recommendations(values, ids.masked_fill(values == -torch.inf, PAD_ID))


def target_ranks(
    chunks: Sequence[tuple[int, Tensor]],
    targets: Tensor,
    *,
    seen: Tensor | None = None,
    candidates: Tensor | None = None,
) -> Tensor:
    """Rank of each target among the eligible items, 1 is best. Ties count against the target.

    Where there are several chunks they are gone through twice: a target's score must come from the very product that
    it is compared in.

    Args:
        chunks: First item id and ``(batch, chunk)`` scores of each chunk.
        targets: ``(batch,)`` item ids.
        seen: ``(batch, any)`` item ids to hide. A target among them is a certain miss.
        candidates: ``(batch, any)`` negatives that the target is ranked among; ``None`` is the whole catalogue.

    Returns:
        ``(batch,)`` float32; ``inf`` for a target that is hidden.

    Raises:
        ValueError: If a score is NaN.
    """
    if len(chunks) == 1:
        chunks = list(chunks)
    column = targets[:, None]
    if candidates is not None:
        candidates = torch.cat([candidates, column], dim=1)
    target_scores = torch.full(column.shape, torch.nan, device=targets.device)
    for first, scores in chunks:
        check_no_nan(scores)
        local = column - first
        inside = (local >= 0) & (local < scores.shape[1])
        target_scores = scores.gather(1, local.where(inside, 0)).float().where(inside, target_scores)
    ranks = torch.ones(targets.shape, device=targets.device)  # float32: exact up to 2**24 items
    hidden = torch.ones_like(targets, dtype=torch.bool)
    for first, scores in chunks:
        eligible = eligible_items(first, scores, seen, candidates)
        is_target = torch.arange(first, first + scores.shape[1], device=targets.device) == column
        hidden &= ~(eligible & is_target).any(dim=1)
        ranks += (eligible & ~is_target & (scores >= target_scores)).sum(dim=1)
    return ranks.masked_fill(hidden, torch.inf)


def mean_over_targets(total: Tensor, n_targets: int, num_items_in_batch: Tensor | int | None) -> Tensor:
    """A sum over targets by the number of targets of all accumulated batches, where the `Trainer` gives it.

    Where there is no target at all it is zero, and not NaN, which would spoil every weight.
    """
    return total / torch.as_tensor(n_targets if num_items_in_batch is None else num_items_in_batch).clamp_min(1)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within it no part of a model is training; behind it each is as it was."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in was_training.items():
            module.training = training


class RecommendMixin(PreTrainedModel):
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
        items, n_items = pack_right_padded(input_ids, known_items(input_ids, attention_mask))
        if not self.scores_first_item and (empty := n_items == 0).any():
            row = int(empty.nonzero()[0])
            raise ValueError(f"Row {row} has no known item, and there is no prompt: nothing to read.")
        return items, n_items

    def _cross_entropy(
        self, vectors: Tensor, targets: Tensor, num_items_in_batch: Tensor | int | None
    ) -> CausalLMOutput:
        """Mean over the targets, or their sum over ``num_items_in_batch``. While training there are no logits."""
        logits = None if self.training else catalogue_scores(vectors, self.catalogue)  # (targets, vocab)
        if logits is None:
            total = catalogue_cross_entropy(vectors, self.catalogue, targets)
        else:
            total = F.cross_entropy(logits, targets, reduction="sum")  # of no targets: a zero that still has gradients
        loss = mean_over_targets(total, len(targets), num_items_in_batch)
        return CausalLMOutput(loss=loss, logits=logits)  # type: ignore[arg-type]

    def target_ranks(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        targets: Tensor,
        *,
        exclude_seen: bool = True,
        candidates: Tensor | None = None,
    ) -> Tensor:
        """Rank of each row's target after its history, as [`target_ranks`].

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
        chunks = ScoreChunks(self.next_item_vectors(items, n_items), self.catalogue)
        return target_ranks(chunks, targets, seen=items if exclude_seen else None, candidates=candidates)

    @torch.no_grad()
    def recommend(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        top_k: int = 10,
        exclude_seen: bool = True,
        candidates: Tensor | Sequence[int] | None = None,
        batch_size: int = 128,
    ) -> Recommendations:
        """The ``top_k`` items that come next, dropout switched off.

        Args:
            input_ids: ``(batch, seq)`` histories as the item tokenizer makes them, as many as you like.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            top_k: How many items a row.
            exclude_seen: Whether the items of the history are hidden, also those before the last ``max_history``.
            candidates: Item ids to choose from, ``(any,)`` for all rows or ``(batch, any)``; ``None`` is the whole
                catalogue. ``[PAD]`` among them is passed over.
            batch_size: Histories that are read at a time; they are sorted by length first.

        Returns:
            [`Recommendations`]: scores and item ids, both ``(batch, top_k)``.

        Raises:
            ValueError: If ``top_k`` is not between 1 and the size of the catalogue, ``batch_size`` is below 1, an id
                is outside the vocabulary, or a score is NaN.
        """
        size = self.config.vocab_size - FIRST_ITEM_ID
        if not 1 <= top_k <= size:
            raise ValueError(f"top_k must be between 1 and the {size} items of the catalogue, not {top_k}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        items, n_items = self._known_history(input_ids, attention_mask)
        if candidates is not None:
            candidates = torch.as_tensor(candidates, device=items.device).expand(len(items), -1)
            check_item_ids(candidates, self.config.vocab_size, "candidates")
        parts = n_items.argsort(stable=True).split(batch_size)
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
            ScoreChunks(self.next_item_vectors(items, n_items), self.catalogue),
            top_k,
            seen=items if exclude_seen else None,
            candidates=None if candidates is None else candidates[rows],
        )
