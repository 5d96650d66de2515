"""From scores to a ranking: the best items, and the rank of a target, a chunk of the catalogue at a time."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .histories import FIRST_ITEM_ID, PAD_ID

#: Scores that are held at a time when ranking (64 MiB in float32).
SCORES_AT_A_TIME = 2**24


class Recommendations(NamedTuple):
    """The best items of each row, best first.

    Attributes:
        scores: ``(batch, top_k)``; ``-inf`` where fewer items than ``top_k`` could be recommended.
        item_ids: ``(batch, top_k)`` item tokens; ``[PAD]`` in the same places.
    """

    scores: Tensor
    item_ids: Tensor


class ScoreChunks(Sequence[tuple[int, Tensor]]):
    """The scores of [`catalogue_scores`], a chunk of the catalogue at a time, in float32.

    In half precision items tie, and a tie says nothing about which is better.

    Args:
        vectors: ``(rows, width)``.
        parts: ``(items, width)`` each, see [`catalogue_scores`]. A product never goes beyond the end of a part.
    """

    def __init__(self, vectors: Tensor, parts: Iterable[Tensor]) -> None:
        self.vectors = vectors.float()
        size = max(SCORES_AT_A_TIME // max(len(vectors), 1), 1)
        self.chunks: list[tuple[int, list[Tensor]]] = []  # first item id and what fits into one chunk
        first = room = 0
        for piece in (piece for part in parts for piece in part.split(size)):
            if len(piece) > room:
                self.chunks.append((first, []))
                room = size
            self.chunks[-1][1].append(piece)
            first, room = first + len(piece), room - len(piece)

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, index: Any) -> Any:
        """First item id and ``(rows, chunk)`` scores of one chunk."""
        first, pieces = self.chunks[index]
        return first, catalogue_scores(self.vectors, pieces)


def catalogue_scores(vectors: Tensor, parts: Iterable[Tensor]) -> Tensor:
    """Products of the vectors of histories and items, in float32, under autocast too.

    Each part is a product of its own, for in one with more columns the last bit of a score may be another.

    Args:
        vectors: ``(rows, width)``.
        parts: ``(items, width)`` each: the catalogue in the parts that it grew by.

    Returns:
        ``(rows, vocab)``.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        scores = [vectors.float() @ part.float().T for part in parts]
    return scores[0] if len(scores) == 1 else torch.cat(scores, dim=1)


def check_no_nan(scores: Tensor) -> None:
    """Refuse scores that cannot be ranked.

    Raises:
        ValueError: If a score is NaN.
    """
    broken = scores.amax(dim=1).isnan()  # one look at each score: a maximum with NaN is NaN
    if broken.any():
        raise ValueError(
            f"The scores of {int(broken.sum())} of {len(scores)} histories hold NaN: a ranking of them would mean "
            "nothing. Look for a learning rate that is too high, or float16 overflow in the base."
        )


def strike_out(
    first: int, scores: Tensor, seen: Tensor | None, candidates: Tensor | None, retired: Tensor | None, value: float
) -> None:
    """Write ``value`` over the scores of items that may not stand in the ranking, the special tokens among them.

    In place, for a mask of the chunk would cost as much as ranking it.

    Args:
        first: Id of the first item of the chunk.
        scores: ``(rows, chunk)``.
        seen: ``(rows, any)`` item ids to hide.
        candidates: ``(rows, any)`` item ids to choose from; ``None`` is the whole catalogue.
        retired: ``(any,)`` item ids to hide in every row.
        value: What to write.
    """

    def places(ids: Tensor) -> tuple[Tensor, Tensor]:  # rows and columns of those that are in the chunk
        row, column = ((ids >= first) & (ids < first + scores.shape[1])).nonzero(as_tuple=True)
        return row, ids[row, column] - first

    if candidates is not None:
        chosen = places(candidates)
        kept = scores[chosen]
        scores.fill_(value)[chosen] = kept
    if seen is not None:
        scores[places(seen)] = value
    if retired is not None:
        inside = (retired >= first) & (retired < first + scores.shape[1])
        scores.index_fill_(1, retired[inside] - first, value)
    scores[:, : max(FIRST_ITEM_ID - first, 0)] = value


def best_items(
    chunks: Iterable[tuple[int, Tensor]],
    top_k: int,
    *,
    seen: Tensor | None = None,
    candidates: Tensor | None = None,
    retired: Tensor | None = None,
) -> Recommendations:
    """The best ``top_k`` eligible items of each row.

    Args:
        chunks: First item id and ``(rows, chunk)`` scores of each chunk, in memory of its own, for it is written over.
        top_k: How many.
        seen: ``(rows, any)`` item ids to hide.
        candidates: ``(rows, any)`` item ids to choose from; ``None`` is the whole catalogue.
        retired: ``(any,)`` item ids to hide in every row.

    Raises:
        ValueError: If a score is NaN.
    """
    best: list[tuple[Tensor, Tensor]] = []
    for first, scores in chunks:
        check_no_nan(scores)
        strike_out(first, scores, seen, candidates, retired, -torch.inf)
        values, places = scores.topk(min(top_k, scores.shape[1]), dim=1)
        values, ids = (torch.cat(part, dim=1) for part in zip(*best, (values, places + first), strict=True))
        values, places = values.topk(min(top_k, values.shape[1]), dim=1)
        best = [(values, ids.gather(1, places))]
    values, ids = best[0]
    return Recommendations(values, ids.masked_fill(values == -torch.inf, PAD_ID))


def target_ranks(
    chunks: Sequence[tuple[int, Tensor]],
    targets: Tensor,
    *,
    seen: Tensor | None = None,
    candidates: Tensor | None = None,
    retired: Tensor | None = None,
) -> Tensor:
    """Rank of each target among the eligible items, 1 is best. Ties count against the target.

    Where there are several chunks they are gone through twice: a target's score must come from the very product that
    it is compared in.

    Args:
        chunks: First item id and ``(batch, chunk)`` scores of each chunk, in memory of its own, for it is written over.
        targets: ``(batch,)`` item ids.
        seen: ``(batch, any)`` item ids to hide. A target among them is a certain miss.
        candidates: ``(batch, any)`` negatives that the target is ranked among; ``None`` is the whole catalogue.
        retired: ``(any,)`` item ids to hide in every row. A target among them is a certain miss too.

    Returns:
        ``(batch,)`` float32; ``inf`` for a target that is hidden.

    Raises:
        ValueError: If a score is NaN.
    """
    if len(chunks) == 1:
        chunks = list(chunks)
    column = targets[:, None]
    if candidates is not None:
        candidates = torch.cat([candidates, column], dim=1)

    def scores_of_targets(first: int, scores: Tensor, otherwise: Tensor) -> Tensor:
        local = column - first
        inside = (local >= 0) & (local < scores.shape[1])
        return scores.gather(1, local.where(inside, 0)).where(inside, otherwise)

    target_scores = torch.full(column.shape, torch.nan, device=targets.device)
    for first, scores in chunks:
        check_no_nan(scores)
        target_scores = scores_of_targets(first, scores, target_scores)
    ranks = torch.zeros(targets.shape, device=targets.device)  # float32: exact up to 2**24 items
    left = torch.full_like(target_scores, torch.nan)
    for first, scores in chunks:
        strike_out(first, scores, seen, candidates, retired, torch.nan)  # NaN is never counted
        ranks += (scores >= target_scores).sum(dim=1)  # the target itself among them
        left = scores_of_targets(first, scores, left)
    return ranks.masked_fill(left.isnan().squeeze(1), torch.inf)
