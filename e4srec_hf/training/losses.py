"""Losses: cross-entropy over the whole catalogue without ever holding all its scores, and sampled negatives."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..modeling.histories import FIRST_ITEM_ID
from ..modeling.recommender import Recommender

#: Scores that are held at a time, as long as that is enough for :data:`LEAST_TARGETS`.
SCORES_AT_A_TIME = 2**21
#: With fewer targets at a time, the scoring vectors would be read too often.
LEAST_TARGETS = 64


def catalogue_cross_entropy(vectors: Tensor, scoring_vectors: Tensor, targets: Tensor) -> Tensor:
    """Sum over the targets of ``-log softmax(vectors @ scoring_vectors.T)[target]``, in chunks of targets.

    Under autocast, or in half precision, products are taken in that precision, and sums in float32.

    Args:
        vectors: ``(targets, width)``.
        scoring_vectors: ``(vocab, width)``.
        targets: ``(targets,)`` item ids.

    Returns:
        A scalar, float32. Without any target it is a zero that still has gradients.
    """
    if not len(targets):
        return (vectors.sum() + 0 * scoring_vectors.sum()).float()
    vectors = vectors.to(scoring_vectors.dtype)
    if torch.is_autocast_enabled(vectors.device.type):
        dtype = torch.get_autocast_dtype(vectors.device.type)
        vectors, scoring_vectors = vectors.to(dtype), scoring_vectors.to(dtype)
    chunk = min(max(SCORES_AT_A_TIME // len(scoring_vectors), LEAST_TARGETS), len(targets))
    with torch.autocast(vectors.device.type, enabled=False):
        if hasattr(F, "linear_cross_entropy") and vectors.dtype == torch.float32:  # it sums in half precision too
            options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)
            return F.linear_cross_entropy(vectors, scoring_vectors, targets, reduction="sum", options=options)

        def loss_of(vectors: Tensor, targets: Tensor) -> Tensor:  # computed again in the backward pass
            return F.cross_entropy((vectors @ scoring_vectors.T).float(), targets, reduction="sum")

        parts = zip(vectors.split(chunk), targets.split(chunk), strict=True)
        return torch.stack([checkpoint(loss_of, *part, use_reentrant=False) for part in parts]).sum()


def sampled_loss(model: Recommender, vectors: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Sum over the targets of the loss against sampled negatives: a softmax, or the mean of binary losses.

    Args:
        model: A SASRec whose config has the loss ``"sampled_softmax"`` or ``"bce"``.
        vectors: ``(targets, hidden)``.
        targets: ``(targets,)``.
        seen: ``(targets, seq)`` item ids that must not be drawn; ``[PAD]`` is ignored.
    """
    config, table = model.config, model.scoring_vectors
    negatives = sample_unseen(seen, config.vocab_size, config.num_negatives)  # (targets, negatives)
    positive_scores = (vectors * table[targets]).sum(-1)  # (targets,)
    negative_scores = (table[negatives] @ vectors.unsqueeze(2)).squeeze(2)  # (targets, negatives)
    if config.loss == "sampled_softmax":
        scores = torch.cat([positive_scores.unsqueeze(1), negative_scores], dim=1)
        return F.cross_entropy(scores, torch.zeros_like(targets), reduction="sum")
    return -F.logsigmoid(positive_scores).sum() - F.logsigmoid(-negative_scores).mean(dim=1).sum()


def training_loss(model: Recommender, vectors: Tensor, targets: Tensor, seen: Tensor | None) -> Tensor:
    """Sum over the targets of the loss that the config of a model names.

    Args:
        model: The model.
        vectors: ``(targets, width)``.
        targets: ``(targets,)`` item ids.
        seen: ``(targets, any)`` item ids of their histories.
    """
    if seen is not None and getattr(model.config, "loss", "ce") != "ce":
        return sampled_loss(model, vectors, targets, seen)
    return catalogue_cross_entropy(vectors, model.scoring_vectors, targets)


def sample_unseen(seen: Tensor, vocab_size: int, count: int) -> Tensor:
    """Draw items uniformly from those that a row has not seen, exactly and without rejection.

    The ``k``-th unseen item is ``k`` shifted past every seen item that is not above it.

    Args:
        seen: ``(rows, any)`` item ids; special tokens are ignored, repeats count once.
        vocab_size: Rows of the item table.
        count: Draws a row, with replacement.

    Returns:
        ``(rows, count)`` item ids.

    Raises:
        ValueError: If a row has seen the whole catalogue.
    """
    ordered = seen.sort(dim=1).values
    counts = ordered >= FIRST_ITEM_ID  # each seen item once
    counts[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    n_unseen = (vocab_size - FIRST_ITEM_ID) - counts.sum(dim=1)  # (rows,)
    if (n_unseen < 1).any():
        raise ValueError("A row holds every item of the catalogue: there is no negative to sample.")
    # seen item number j (in order) has `ordered - FIRST_ITEM_ID - j` unseen items below it
    unseen_below = ordered - FIRST_ITEM_ID - (counts.cumsum(1) - 1)
    unseen_below = unseen_below.masked_fill(~counts, vocab_size)
    draw = torch.randint(2**62, (len(seen), count), device=seen.device) % n_unseen[:, None]
    skipped = (unseen_below.unsqueeze(1) <= draw.unsqueeze(2)).sum(-1)
    return FIRST_ITEM_ID + draw + skipped
