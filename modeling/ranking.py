"""From scores to a ranking: the best items of each row, a chunk of the catalogue at a time."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .histories import FIRST_ITEM_ID, PAD_ID

#: Scores that are held at a time when ranking (64 MiB in float32).
SCORES_AT_A_TIME = 2**24


class Recommendations(NamedTuple):
    """The best items of each row, best first; the score is ``-inf`` and the item ``[PAD]`` where fewer are left."""

    scores: Tensor  # (batch, top_k)
    item_ids: Tensor  # (batch, top_k) item tokens


def catalogue_scores(vectors: Tensor, parts: Iterable[Tensor]) -> Tensor:
    """Products of the ``(rows, width)`` vectors of histories and those of items: ``(rows, vocab)``.

    They are in float32, under autocast too: half precision makes ties. Each of the ``(items, width)`` parts that the
    catalogue grew by is multiplied separately, because with more columns the last bit of a score may change.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        scores = [vectors.float() @ part.float().T for part in parts]
    return scores[0] if len(scores) == 1 else torch.cat(scores, dim=1)


def score_chunks(vectors: Tensor, parts: tuple[Tensor, ...]) -> Iterator[tuple[int, Tensor]]:
    """The scores of [`catalogue_scores`] in chunks: first item id and ``(rows, chunk)`` scores of each."""
    size = max(SCORES_AT_A_TIME // max(len(vectors), 1), 1)
    groups = [parts] if sum(map(len, parts)) <= size else [(piece,) for part in parts for piece in part.split(size)]
    first = 0
    for group in groups:
        yield first, catalogue_scores(vectors, group)
        first += sum(map(len, group))


def check_no_nan(scores: Tensor) -> None:
    """Raise a `ValueError` if a score is NaN, because then nothing can be ranked."""
    if (broken := scores.amax(dim=1).isnan()).any():  # reads each score once: the maximum with a NaN is NaN
        raise ValueError(
            f"The scores of {int(broken.sum())} of {len(scores)} histories are NaN and cannot be ranked. Look for a "
            "learning rate that is too high, or for float16 overflow in the base."
        )


def mask_ineligible_items(
    scores: Tensor,
    first: int,
    seen: Tensor | None,
    candidates: Tensor | None,
    retired: Tensor | None,
    value: float = -torch.inf,
) -> None:
    """Write ``value`` over the scores of special tokens and of items that must not be recommended, in place.

    The ``(rows, chunk)`` scores begin with that of the item ``first``. Hidden are the ``(rows, any)`` ``seen``, all but
    the ``(rows, any)`` ``candidates``, and in every row the ``(any,)`` ``retired``; ``None`` hides nothing.
    """

    def places(ids: Tensor) -> tuple[Tensor, Tensor]:  # rows and columns of the ids that are in the chunk
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
    """The best ``top_k`` eligible items of each row. A NaN among the scores is a `ValueError`.

    ``chunks`` are first item ids and ``(rows, chunk)`` scores, which are overwritten; ``seen``, ``candidates`` and
    ``retired`` are as for [`mask_ineligible_items`].
    """
    best: list[tuple[Tensor, Tensor]] = []
    for first, scores in chunks:
        check_no_nan(scores)
        mask_ineligible_items(scores, first, seen, candidates, retired)
        values, ids = scores.topk(min(top_k, scores.shape[1]), dim=1)
        best.append((values, ids + first))
        if len(best) > 1:
            values, ids = (torch.cat(part, dim=1) for part in zip(*best, strict=True))
            values, places = values.topk(min(top_k, values.shape[1]), dim=1)
            best = [(values, ids.gather(1, places))]
    values, ids = best[0]
    return Recommendations(values, ids.masked_fill(values == -torch.inf, PAD_ID))
