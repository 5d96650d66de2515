"""Rows of a linear head for items that it was not trained on: least squares from item vectors to its trained rows."""

from typing import NamedTuple

import torch
from torch import Tensor

#: Numbers in float64 that are held at a time (128 MiB).
NUMBERS_AT_A_TIME = 2**24


class HeadFit(NamedTuple):
    """How well item vectors tell the rows of a linear head.

    A vector that tells nothing gets the mean row, and so a middling score whoever asks: where ``r2_held_out`` is low,
    new items are recommended seldom and for no good reason, and only training helps.

    Attributes:
        n_items: Items whose trained rows were fitted.
        r2: Share of the rows' variance around their mean that the fit accounts for, on these very items.
        r2_held_out: The same where each item is told by a fit to all others, which is what a new item can expect. It
            may be below zero. NaN where an item cannot be told by the others: there are no more items than dimensions.
        cosine: Mean cosine of fitted and trained rows.
        cosine_held_out: The same where each item is told by a fit to all others.
    """

    n_items: int
    r2: float
    r2_held_out: float
    cosine: float
    cosine_held_out: float


def fit_rows(vectors: Tensor, rows: Tensor, new_vectors: Tensor) -> tuple[Tensor, HeadFit]:
    """Fit ``rows = vectors @ weight + intercept`` by least squares, and apply it to new vectors.

    Computed in float64, a block of the head's width at a time. Leaving an item out changes its residual from ``e`` to
    ``e / (1 - h)``, ``h`` being the item's leverage: so the held-out figures need no fit for each item.

    Args:
        vectors: ``(items, item dimension)`` item vectors.
        rows: ``(items, width)`` their rows of the head.
        new_vectors: ``(new, item dimension)``.

    Returns:
        ``(new, width)`` rows in float64 on the CPU, and how good the fit is. Where several fits are equally good it is
        the smallest, as `numpy.linalg.lstsq` has it.
    """
    vectors, new_vectors = vectors.double().cpu(), new_vectors.double().cpu()
    centre = vectors.mean(dim=0)
    left, values, right = torch.linalg.svd(vectors - centre, full_matrices=False)
    kept = values > values.max() * max(vectors.shape) * torch.finfo(torch.float64).eps
    left, values, right = left[:, kept], values[kept], right[kept]  # (items, rank), (rank,), (rank, item dimension)
    new = (new_vectors - centre) @ right.T / values  # (new, rank)
    rest = (1 - 1 / len(vectors) - left.square().sum(dim=1, keepdim=True)).clamp_min(0)  # 1 - leverage, (items, 1)
    rest = rest.where(rest > 1e-9, torch.nan)

    found = []
    total, fitted, held_out = _Agreement(), _Agreement(), _Agreement()
    for block in rows.split(max(NUMBERS_AT_A_TIME // len(rows), 1), dim=1):
        block = block.double().cpu()
        mean = block.mean(dim=0)
        inner = left.T @ (block - mean)  # (rank, block)
        found.append(mean + new @ inner)
        told = mean + left @ inner
        total.add(block, mean.expand_as(block))
        fitted.add(block, told)
        held_out.add(block, block - (block - told) / rest)
    quality = HeadFit(
        n_items=len(vectors),
        r2=1 - fitted.squares / total.squares if total.squares else float("nan"),
        r2_held_out=1 - held_out.squares / total.squares if total.squares else float("nan"),
        cosine=fitted.mean_cosine(),
        cosine_held_out=held_out.mean_cosine(),
    )
    return torch.cat(found, dim=1), quality


class _Agreement:
    """How far told rows are from true ones, summed over blocks of their width."""

    def __init__(self) -> None:
        self.squares = 0.0
        self.products = torch.zeros(3)  # then (3, items): true by told, true by true, told by told

    def add(self, true: Tensor, told: Tensor) -> None:
        self.squares += float((true - told).square().sum())
        self.products = self.products.reshape(3, -1) + torch.stack(
            [(true * told).sum(dim=1), true.square().sum(dim=1), told.square().sum(dim=1)]
        )

    def mean_cosine(self) -> float:
        across, true, told = self.products
        return float((across / (true * told).sqrt().clamp_min(1e-300)).mean())
