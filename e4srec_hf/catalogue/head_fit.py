"""Rows for items that were not trained: least squares or ridge regression from vectors of items to trained rows."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Numbers in float64 that are held at a time (128 MiB).
NUMBERS_AT_A_TIME = 2**24


class HeadFit(NamedTuple):
    """How well vectors of items predict rows of theirs: item vectors those of a linear head, titles item vectors.

    If ``r2_held_out`` is low, new items get rows near the mean row and so a middling score for every user: they are
    recommended seldom and for no good reason, and only training helps. Rows from titles are stretched to the length of
    trained ones where ``r2_held_out`` is above zero.

    Attributes:
        n_items: Items whose trained rows were fitted.
        r2: Fraction of the rows' variance around their mean that the fit explains, on the fitted items.
        r2_held_out: The same if each item is predicted by a fit to all others, as a new item is. It may be below zero.
            NaN if there are no more items than dimensions, and no penalty.
        cosine: Mean cosine of fitted and trained rows.
        cosine_held_out: The same if each item is predicted by a fit to all others.
        penalty: The ridge penalty, a multiple of the mean squared singular value of the vectors; 0 is least squares.
    """

    n_items: int
    r2: float
    r2_held_out: float
    cosine: float
    cosine_held_out: float
    penalty: float = 0.0


def fit_rows(
    vectors: Tensor, rows: Tensor, new_vectors: Tensor, penalties: Sequence[float] = (0.0,)
) -> tuple[Tensor, HeadFit]:
    """Fit ``rows = vectors @ weight + intercept`` by least squares or ridge regression, and apply it to new vectors.

    It is computed in float64, a block of the rows' width at a time. Without an item in the fit, its residual changes
    from ``e`` to ``e / (1 - h)``, where ``h`` is its leverage: so the held-out figures need no fit for each item. Of
    several penalties the one with the highest ``r2_held_out`` is taken.

    Args:
        vectors: ``(items, dimension)`` vectors of items.
        rows: ``(items, width)`` their rows.
        new_vectors: ``(new, dimension)``.
        penalties: Ridge penalties to choose from, see [`HeadFit`]; the intercept has none.

    Returns:
        ``(new, width)`` rows in float64 on the CPU, and how good the fit is. Of several equally good fits it is
        the smallest, as in `numpy.linalg.lstsq`.
    """
    vectors, new_vectors = vectors.double().cpu(), new_vectors.double().cpu()
    centre = vectors.mean(dim=0)
    left, values, right = torch.linalg.svd(vectors - centre, full_matrices=False)
    kept = values > values.max() * max(vectors.shape) * torch.finfo(torch.float64).eps
    left, values, right = left[:, kept], values[kept], right[kept]  # (items, rank), (rank,), (rank, dimension)
    new = (new_vectors - centre) @ right.T / values  # (new, rank)
    squares = values.square()
    candidates = [squares / (squares + penalty * squares.mean()) for penalty in penalties]  # (rank,) each
    blocks = rows.split(max(NUMBERS_AT_A_TIME // len(rows), 1), dim=1)

    def held_out_squares(shrinkage: Tensor) -> float:
        fits = (_fit_block(block, left, shrinkage) for block in blocks)
        return sum(float((fit.rows - fit.held_out).square().sum()) for fit in fits)

    best = 0
    if len(candidates) > 1:
        losses = torch.tensor([held_out_squares(shrinkage) for shrinkage in candidates])
        best = int(losses.nan_to_num(torch.inf).argmin())
    found = []
    total, fitted, held_out = _Agreement(), _Agreement(), _Agreement()
    for block in blocks:
        fit = _fit_block(block, left, candidates[best])
        found.append(fit.mean + new @ fit.inner)
        total.add(fit.rows, fit.mean.expand_as(fit.rows))
        fitted.add(fit.rows, fit.predicted)
        held_out.add(fit.rows, fit.held_out)
    quality = HeadFit(
        n_items=len(vectors),
        r2=1 - fitted.squares / total.squares if total.squares else float("nan"),
        r2_held_out=1 - held_out.squares / total.squares if total.squares else float("nan"),
        cosine=fitted.mean_cosine(),
        cosine_held_out=held_out.mean_cosine(),
        penalty=penalties[best],
    )
    return torch.cat(found, dim=1), quality


class _BlockFit(NamedTuple):
    """The fit to a block of the rows' width."""

    rows: Tensor  # (items, block), like the two predictions
    mean: Tensor  # (block,)
    inner: Tensor  # (rank, block) weights in the basis of the singular vectors
    predicted: Tensor
    held_out: Tensor


def _fit_block(block: Tensor, left: Tensor, shrinkage: Tensor) -> _BlockFit:
    block = block.double().cpu()
    mean = block.mean(dim=0)
    inner = shrinkage[:, None] * (left.T @ (block - mean))
    predicted = mean + left @ inner
    rest = (1 - 1 / len(block) - left.square() @ shrinkage).clamp_min(0)[:, None]  # 1 - leverage, (items, 1)
    rest = rest.where(rest > 1e-9, torch.nan)
    return _BlockFit(block, mean, inner, predicted, block - (block - predicted) / rest)


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
