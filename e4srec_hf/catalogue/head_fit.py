"""Rows of a linear head for items that it was not trained on: least squares from item vectors to its trained rows."""

from typing import NamedTuple

import torch
from torch import Tensor

#: Numbers in float64 that are held at a time (128 MiB).
NUMBERS_AT_A_TIME = 2**24


class HeadFit(NamedTuple):
    """How well item vectors predict the rows of a linear head.

    If ``r2_held_out`` is low, new items get rows near the mean row and so a middling score for every user: they are
    recommended seldom and for no good reason, and only training helps.

    Attributes:
        n_items: Items whose trained rows were fitted.
        r2: Fraction of the rows' variance around their mean that the fit explains, on the fitted items.
        r2_held_out: The same if each item is predicted by a fit to all others, as a new item is. It may be below zero.
            NaN if there are no more items than dimensions.
        cosine: Mean cosine of fitted and trained rows.
        cosine_held_out: The same if each item is predicted by a fit to all others.
    """

    n_items: int
    r2: float
    r2_held_out: float
    cosine: float
    cosine_held_out: float


def fit_rows(vectors: Tensor, rows: Tensor, new_vectors: Tensor) -> tuple[Tensor, HeadFit]:
    """Fit ``rows = vectors @ weight + intercept`` by least squares, and apply it to new vectors.

    It is computed in float64, a block of the head's width at a time. Without an item in the fit, its residual changes
    from ``e`` to ``e / (1 - h)``, where ``h`` is its leverage: so the held-out figures need no fit for each item.

    Args:
        vectors: ``(items, item dimension)`` item vectors.
        rows: ``(items, width)`` their rows of the head.
        new_vectors: ``(new, item dimension)``.

    Returns:
        ``(new, width)`` rows in float64 on the CPU, and how good the fit is. Of several equally good fits it is
        the smallest, as in `numpy.linalg.lstsq`.
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
        predicted = mean + left @ inner
        total.add(block, mean.expand_as(block))
        fitted.add(block, predicted)
        held_out.add(block, block - (block - predicted) / rest)
    quality = HeadFit(
        n_items=len(vectors),
        r2=1 - fitted.squares / total.squares if total.squares else float("nan"),
        r2_held_out=1 - held_out.squares / total.squares if total.squares else float("nan"),
        cosine=fitted.mean_cosine(),
        cosine_held_out=held_out.mean_cosine(),
    )
    return torch.cat(found, dim=1), quality


class _Agreement:
    """How far predicted rows are from true ones, summed over blocks of their width."""

    def __init__(self) -> None:
        self.squares = 0.0
        self.products = torch.zeros(3)  # then (3, items): true by predicted, true by true, predicted by predicted

    def add(self, true: Tensor, predicted: Tensor) -> None:
        self.squares += float((true - predicted).square().sum())
        self.products = self.products.reshape(3, -1) + torch.stack(
            [(true * predicted).sum(dim=1), true.square().sum(dim=1), predicted.square().sum(dim=1)]
        )

    def mean_cosine(self) -> float:
        across, true, predicted = self.products
        return float((across / (true * predicted).sqrt().clamp_min(1e-300)).mean())
