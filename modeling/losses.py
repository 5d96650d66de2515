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

    Under autocast, or where both are in half precision, the products are taken in that, and the sums in float32.

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
    # torch 2.13 has a fused one, which would sum up in half precision too
    is_fused = hasattr(F, "linear_cross_entropy") and vectors.dtype == torch.float32
    sum_of = _fused if is_fused else _checkpointed
    with torch.autocast(vectors.device.type, enabled=False):
        return sum_of(vectors, catalogue, targets, min(chunk, len(targets)))


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
