"""Item vectors of two parts, side by side: what IDs were trained to, and what a language model reads in titles."""

import os
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..modeling.histories import FIRST_ITEM_ID
from .texts import standard_scores, text_vectors


@torch.no_grad()
def with_text(
    item_vectors: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    titles: Mapping[str, str],
    base_model: str | os.PathLike[str] | PreTrainedModel,
) -> Tensor:
    """Put vectors of titles beside vectors of IDs.

    The base reads the titles, see `text_vectors`. Of these vectors, in standard scores over the items, the first
    principal components are kept, at most as many as the vectors of IDs are wide. They are scaled to the same mean
    length. Nothing is looked at but the titles. An item without a title gets zeros there, the mean of the others.

    Args:
        item_vectors: ``(vocab, width)`` vectors of IDs, as `load_item_embeddings` gives them.
        tokenizer: The item tokenizer that they are for.
        titles: Raw item id to title, for items that have one.
        base_model: What reads the titles: Hub id, folder, GGUF file, or a loaded model.

    Returns:
        ``(vocab, up to twice the width)`` float32, the vectors of IDs first.

    Raises:
        ValueError: If the vectors do not fit the tokenizer, or there are not two items with titles that the base can
            tell apart.
    """
    if item_vectors.dim() != 2 or len(item_vectors) != len(tokenizer):
        raise ValueError(f"The item tokenizer has {len(tokenizer)} tokens, the vectors {tuple(item_vectors.shape)}.")
    items = tokenizer.convert_ids_to_tokens(list(range(FIRST_ITEM_ID, len(tokenizer))))
    named = {token: (titles.get(item) or "").strip() for token, item in enumerate(items, FIRST_ITEM_ID)}
    known = {token: title for token, title in named.items() if title}
    if len(set(known.values())) < 2:
        raise ValueError(f"Of {len(items)} items {len(known)} have a title, and no two titles differ.")
    read = text_vectors(known.values(), base_model).double()
    mean, spread = standard_scores(read)
    parts = _principal_components((read - mean) / spread, item_vectors.shape[1])
    length = item_vectors[FIRST_ITEM_ID:].norm(dim=1).mean().cpu()
    parts *= length / parts.norm(dim=1).mean()
    beside = torch.zeros(len(tokenizer), parts.shape[1])
    beside[list(known)] = parts.float()
    return torch.cat([item_vectors.detach().float(), beside.to(item_vectors.device)], dim=1)


def _principal_components(scores: Tensor, most: int) -> Tensor:
    """``(items, up to most)`` rows of centred ``scores`` along their principal axes, without axes of no variance."""
    variances, axes = torch.linalg.eigh(scores.T @ scores)  # ascending
    axes = axes[:, variances > 1e-9 * variances[-1]].flip(1)[:, :most]
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return scores @ (axes * largest.sign())  # else the sign of an axis is left to the library
