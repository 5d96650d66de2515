"""HR@K, NDCG@K and MRR with intervals, from the ranks of targets; popularity and coverage of lists of items."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

HR_CUTOFFS = (1, 5, 10, 20)
NDCG_CUTOFFS = (5, 10, 20)
#: Percentages of the catalogue that count as popular.
HEAD_PERCENTS = (1, 10)


class Estimate(NamedTuple):
    """A mean over users with the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


def user_metrics(
    ranks: ArrayLike, *, hr_cutoffs: Sequence[int] = HR_CUTOFFS, ndcg_cutoffs: Sequence[int] = NDCG_CUTOFFS
) -> dict[str, NDArray[np.float64]]:
    """The metrics of each user, in closed form from the rank of the only target.

    HR@K is 1 if the rank is at most K, and NDCG@K is then ``1 / log2(1 + rank)``, because the ideal ranking has the
    only target on top. MRR is ``1 / rank`` over the whole ranking.

    Args:
        ranks: ``(users,)`` ranks, 1 is best; ``inf`` is a certain miss.
        hr_cutoffs: The K of HR@K.
        ndcg_cutoffs: The K of NDCG@K.

    Returns:
        Name to ``(users,)`` values: ``hr@K``, ``ndcg@K``, ``mrr``.

    Raises:
        ValueError: If there are no ranks, or one is NaN or below 1.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    if ranks.ndim != 1 or not len(ranks):
        raise ValueError(f"ranks must be a list of at least one number, not of the shape {ranks.shape}")
    if not (ranks >= 1).all():  # NaN fails this too
        bad = int(np.flatnonzero(~(ranks >= 1))[0])
        raise ValueError(f"Ranks start at 1, but ranks[{bad}] is {ranks[bad]}")
    gain = 1 / np.log2(1 + ranks)
    metrics = {f"hr@{k}": (ranks <= k).astype(np.float64) for k in hr_cutoffs}
    metrics |= {f"ndcg@{k}": np.where(ranks <= k, gain, 0.0) for k in ndcg_cutoffs}
    return metrics | {"mrr": 1 / ranks}


def mean_metrics(ranks: ArrayLike) -> dict[str, float]:
    """The mean of each of [`user_metrics`] over the users."""
    return {name: float(values.mean()) for name, values in user_metrics(ranks).items()}


def metrics_with_intervals(
    ranks: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Means over users with percentile bootstrap intervals; users are resampled.

    The metrics of a user depend only on the rank. A resample of users is therefore a multinomial draw of the counts of
    the distinct ranks: the same bootstrap at a fraction of the cost.

    Args:
        ranks: As for [`user_metrics`].
        confidence: Probability mass inside the interval.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    distinct, counts = np.unique(np.asarray(ranks, dtype=np.float64), return_counts=True)
    n_users = int(counts.sum())
    values = user_metrics(distinct)
    per_rank = np.stack(list(values.values()), axis=1)  # (distinct ranks, metrics)
    generator = np.random.default_rng(seed)
    resampled = [generator.multinomial(n_users, counts / n_users) @ per_rank / n_users for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)  # (metrics,) each
    means = counts @ per_rank / n_users
    return {name: Estimate(float(means[i]), float(low[i]), float(high[i])) for i, name in enumerate(values)}


def head_sizes(n_items: int) -> dict[str, int]:
    """Number of items in the most popular 1% and 10% of a catalogue, rounded up, by the names ``1%`` and ``10%``."""
    return {f"{percent}%": -(-n_items * percent // 100) for percent in HEAD_PERCENTS}


def concentration(items: ArrayLike, popularity: ArrayLike) -> dict[str, float]:
    """How popular the items of a list are, and how evenly the list covers the catalogue.

    Args:
        items: ``(any,)`` item numbers, counted from 0, with repetitions.
        popularity: ``(catalogue,)`` number of occurrences of each item in the training data. Of items with the same
            number, those that come first in the catalogue count as more popular.

    Returns:
        ``count``, the length of the list; ``1%`` and ``10%``, the share of the list that is among the most popular 1%
        and 10% of the catalogue; ``coverage``, the share of the catalogue that occurs in the list; ``gini``, the Gini
        coefficient of the number of occurrences of each item of the catalogue: 0 if all occur equally often.

    Raises:
        ValueError: If the list is empty, or an item is outside the catalogue.
    """
    items, popularity = np.asarray(items, dtype=np.int64), np.asarray(popularity)
    n_items = len(popularity)
    if not len(items) or items.min() < 0 or items.max() >= n_items:
        raise ValueError(f"items must be at least one number from 0 to {n_items - 1}, the last of the catalogue")
    counts = np.bincount(items, minlength=n_items)  # (catalogue,)
    by_popularity = counts[np.argsort(-popularity, kind="stable")]
    heads = {name: float(by_popularity[:size].sum() / len(items)) for name, size in head_sizes(n_items).items()}
    places = np.arange(1, n_items + 1)
    gini = 2 * (places @ np.sort(counts)) / (n_items * len(items)) - (n_items + 1) / n_items
    return {"count": len(items), **heads, "coverage": float((counts > 0).mean()), "gini": float(gini)}
