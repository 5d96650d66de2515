"""Popularity: a baseline with the interface of the models, and the popularity bias of recommendations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from ..data.item_tokenizer import item_token_ids, tokenize_histories
from ..modeling.histories import FIRST_ITEM_ID
from ..modeling.recommender import Recommender
from .metrics import concentration, head_sizes


class PopularityModel(nn.Module):
    """Scores every item by its number of occurrences in the training sequences, for all users alike.

    Args:
        sequences: Training sequences as lists of raw ids.
        tokenizer: The item tokenizer.
        retired_items: Token ids of items that are never recommended, as in the config of the model it is compared with.
    """

    counts: Tensor
    retired: Tensor | None

    def __init__(
        self, sequences: Iterable[list[str]], tokenizer: PreTrainedTokenizerBase, retired_items: Sequence[int] = ()
    ) -> None:
        super().__init__()
        tokens = torch.tensor(item_token_ids(tokenizer, [item for items in sequences for item in items]))
        self.register_buffer("counts", torch.bincount(tokens.long(), minlength=len(tokenizer)).float())
        self.register_buffer("retired", torch.tensor(retired_items) if retired_items else None)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> CausalLMOutput:
        """``logits``: ``(batch, vocab)``, the same in every row."""
        return CausalLMOutput(logits=self.counts.expand(len(input_ids), -1))


def popularity_skew(
    models: Mapping[str, tuple[Recommender, PreTrainedTokenizerBase]],
    train: Dataset,
    test: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    top_k: int = 10,
    exclude_seen: bool = True,
    max_users: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the popularity bias of the recommendations of models.

    The training data and the targets of the same users are measured too, for comparison.

    Args:
        models: Name to a model and its item tokenizer.
        train: Training rows with ``item_ids``, which define how popular an item is.
        test: Rows with ``item_ids``: the last item is the target, and recommendations follow the items before it.
            Users without a known item before the target are left out.
        tokenizer: The item tokenizer, which defines the catalogue.
        top_k: Number of recommendations per user; the whole catalogue if it is smaller.
        exclude_seen: Whether the items of the history are hidden.
        max_users: If there are more users, this many are drawn at random.
        seed: Seed of the draw.

    Returns:
        Plain values for JSON: ``top_k``, ``exclude_seen``, ``n_users`` measured ``of_users``, ``heads`` (the number of
        popular items, see `head_sizes`) and ``rows``, name to [`concentration`]: ``training data``, ``test targets``,
        then the models.

    Raises:
        ValueError: If no user has a known item before the target.
    """
    size = len(tokenizer) - FIRST_ITEM_ID
    top_k = min(top_k, size)
    histories, targets = [], []
    for items in test["item_ids"]:
        *history, target = item_token_ids(tokenizer, items)
        if max(history, default=0) >= FIRST_ITEM_ID:
            histories.append(items[:-1])
            targets.append(target)
    if not histories:
        raise ValueError("No user has an item of the catalogue before the last one: there is nobody to recommend to.")
    chosen = range(len(histories))
    if len(histories) > max_users:
        generator = np.random.default_rng(seed)
        chosen = np.sort(generator.choice(len(histories), max_users, replace=False)).tolist()
    histories = [histories[row] for row in chosen]

    def known(tokens: list[int]) -> list[int]:
        return [token - FIRST_ITEM_ID for token in tokens if token >= FIRST_ITEM_ID]

    lists = {
        "training data": known(item_token_ids(tokenizer, [item for items in train["item_ids"] for item in items])),
        "test targets": known([targets[row] for row in chosen]),
    }
    for name, (model, own) in models.items():
        batch = tokenize_histories(own, histories).to(model.scoring_vectors.device)
        best = model.recommend(**batch, top_k=top_k, exclude_seen=exclude_seen)
        recommended = best.item_ids[best.scores > -torch.inf]  # without the padding of short rows
        lists[name] = known(item_token_ids(tokenizer, own.convert_ids_to_tokens(recommended.tolist())))
    popularity = np.bincount(lists["training data"], minlength=size)
    return {
        "top_k": top_k,
        "exclude_seen": exclude_seen,
        "n_users": len(histories),
        "of_users": len(test),
        "heads": head_sizes(size),
        "rows": {name: concentration(items, popularity) for name, items in lists.items() if items},
    }
