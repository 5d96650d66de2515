"""Cross-entropy over the whole catalogue without ever holding all its scores."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

#: Scores that are held at a time, where the catalogue is small enough for at least :data:`LEAST_TARGETS`.
SCORES_AT_A_TIME = 2**21
#: Fewer targets at a time would read the catalogue's vectors over and over.
LEAST_TARGETS = 64


def catalogue_cross_entropy(vectors: Tensor, catalogue: Tensor, targets: Tensor) -> Tensor:
    """Sum over the targets of ``-log softmax(vectors @ catalogue.T)[target]``, in chunks of targets.

    Under autocast the products are taken in its dtype, and the sums in float32.

    Args:
        vectors: ``(targets, width)`` one for each target.
        catalogue: ``(vocab, width)`` one for each item.
        targets: ``(targets,)`` item ids.

    Returns:
        A scalar, float32. Of no targets it is a zero that still has gradients.
    """
    if not len(targets):
        return (vectors.sum() + 0 * catalogue.sum()).float()
    vectors = vectors.to(catalogue.dtype)
    if torch.is_autocast_enabled(vectors.device.type):
        dtype = torch.get_autocast_dtype(vectors.device.type)
        vectors, catalogue = vectors.to(dtype), catalogue.to(dtype)
    chunk = max(SCORES_AT_A_TIME // len(catalogue), LEAST_TARGETS)
    linear_cross_entropy = getattr(F, "linear_cross_entropy", None)  # torch 2.13
    sum_of = _checkpointed if linear_cross_entropy is None else _fused
    with torch.autocast(vectors.device.type, enabled=False):
        return sum_of(vectors, catalogue, targets, min(chunk, len(targets))).float()


def _fused(vectors: Tensor, catalogue: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """Gradients are taken with the scores at hand, so that these need not be computed twice."""
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)
    return F.linear_cross_entropy(vectors, catalogue, targets, reduction="sum", options=options)


def _checkpointed(vectors: Tensor, catalogue: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """The scores of a chunk are computed again in the backward pass."""

    def loss_of(vectors: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy((vectors @ catalogue.T).float(), targets, reduction="sum")

    parts = zip(vectors.split(chunk), targets.split(chunk), strict=True)
    return torch.stack([checkpoint(loss_of, *part, use_reentrant=False) for part in parts]).sum()
