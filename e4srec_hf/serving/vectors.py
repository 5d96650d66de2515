"""Users and items as vectors whose inner products are the scores, for an index of vectors, and items that are alike."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ..data.item_tokenizer import item_catalogue, tokenize_histories
from ..modeling.histories import FIRST_ITEM_ID
from ..modeling.ranking import best_items
from .recommender import Recommended, Recommender


class ItemVectors(NamedTuple):
    """The vectors of a catalogue.

    Attributes:
        items: Raw ids of the items that can be recommended, in the order of their tokens.
        vectors: ``(items, width)`` float32, a row for each.
    """

    items: list[str]
    vectors: NDArray[np.float32]


@torch.no_grad()
def item_vectors(recommender: Recommender) -> ItemVectors:
    """The vectors that score the items: the rows of a linear head, or the item vectors of a tied one. No retired ones.

    Args:
        recommender: The model.

    Returns:
        Ids and vectors. The width is the hidden size of the base for a linear head, and the item dimension for a tied
        one, and for a SASRec.
    """
    model = recommender.model
    keep = torch.ones(model.config.vocab_size, dtype=torch.bool)
    keep[:FIRST_ITEM_ID] = False
    if model.retired is not None:
        keep[model.retired.cpu()] = False
    vectors = model.scoring_vectors.float().cpu()[keep]
    return ItemVectors(item_catalogue(recommender.tokenizer, retired_items=model.config.retired_items), vectors.numpy())


@torch.no_grad()
def user_vectors(
    recommender: Recommender,
    histories: Sequence[Sequence[str]],
    *,
    on_unknown: str = "error",
    batch_size: int = 256,
) -> NDArray[np.float32]:
    """The vectors of histories: their inner products with [`item_vectors`] are the scores of the model.

    Args:
        recommender: The model.
        histories: Lists of raw item ids, the oldest first; a list may be empty if the model has a prompt.
        on_unknown: ``"error"`` refuses ids that are not in the catalogue, ``"unk"`` ignores them.
        batch_size: Histories that are read at a time, sorted by length.

    Returns:
        ``(histories, width)`` float32.

    Raises:
        ValueError: If an id is not known, there are no histories, one has nothing to read, or ``batch_size`` is not
            positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    model = recommender.model
    batch = tokenize_histories(recommender.tokenizer, histories, on_unknown=on_unknown)
    device = model.get_input_embeddings().weight.device
    items, n_items = model.known_histories(batch["input_ids"].to(device), None)
    order = n_items.argsort(descending=True, stable=True)
    with recommender.instruction:
        parts = [
            model.history_vectors(items[rows, : int(n_items[rows].max())], n_items[rows])
            for rows in order.split(batch_size)
        ]
    return torch.cat(parts)[order.argsort()].float().cpu().numpy()


@torch.no_grad()
def similar_items(
    recommender: Recommender, item: str, *, top_k: int | None = None, by: Literal["items", "head"] = "items"
) -> list[Recommended]:
    """The items that are most like one, by the cosine of their vectors. Retired items are not among them.

    Args:
        recommender: The model.
        item: Raw id.
        top_k: How many; by default 10, or the whole catalogue where it is smaller. The item itself is left out.
        by: ``"items"``: the ID vectors, which the model reads: items that are followed by and come from the same
            items. ``"head"``: the vectors that score the items: items that are recommended after the same histories.
            With a tied head, and for a SASRec, both are the same.

    Returns:
        The most similar first; ``score`` is the cosine.

    Raises:
        ValueError: If the item is not known, or ``top_k`` or ``by`` cannot be.
    """
    if by not in ("items", "head"):
        raise ValueError(f'by must be "items" or "head", not {by!r}')
    top_k, (token,) = recommender.checked_top_k(top_k), recommender.tokens([item])
    model = recommender.model
    table = model.get_input_embeddings().weight if by == "items" else model.scoring_vectors  # (vocab, width)
    scores = F.cosine_similarity(table.float(), table[token].float()[None])  # (vocab,)
    itself = torch.tensor([[token]], device=scores.device)
    return recommender.named(best_items([(0, scores[None])], top_k, seen=itself, retired=model.retired))[0]
