"""What a score owes to each item of the history: how much it falls if that item is left out."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from ..data.item_tokenizer import item_token_ids, refuse_ids
from ..modeling.histories import PAD_ID, UNK_ID
from .recommender import Recommender, checked_items, checked_on_unknown


class Explanation(NamedTuple):
    """What the score of one item owes to the history.

    Attributes:
        item: Raw id of the item that is scored.
        score: Its score after the history.
        owed: For each item of the history, in its order: the score minus that without this item. 0 for ids that are
            not in the catalogue, and for items before the last ``max_history``, which are not read.
    """

    item: str
    score: float
    owed: list[float]


@torch.no_grad()
def explain(
    recommender: Recommender, history: Iterable[str], items: Iterable[str], *, on_unknown: str = "error"
) -> list[Explanation]:
    """What the scores of some items owe to each item of a history, by leaving each out, in one batch.

    Without an item, the history is what it would have been: where it is longer than ``max_history``, the item before
    the window moves in. An item that occurs several times is left out at one place at a time. What is owed need not add
    up to the score.

    Args:
        recommender: The model.
        history: Raw item ids, the oldest first.
        items: Raw ids of the items to explain, such as those that were recommended; the history is read once for all.
        on_unknown: ``"error"`` refuses ids of the history that are not in the catalogue, ``"unk"`` ignores them.

    Returns:
        One for each of ``items``.

    Raises:
        TypeError: If the history or the items are anything else than lists of strings.
        ValueError: If an id is not known, a score is not finite, or nothing is left to read: without a prompt, the
            history needs two known items.
    """
    history, items, model = checked_items(history), checked_items(items), recommender.model
    tokens, wanted = item_token_ids(recommender.tokenizer, history), recommender.tokens(items)
    known = [place for place, token in enumerate(tokens) if token != UNK_ID]
    if checked_on_unknown(on_unknown) == "error" and len(known) < len(tokens):
        refuse_ids("are not in the catalogue", [i for i, token in zip(history, tokens, strict=True) if token == UNK_ID])
    if not recommender.has_prompt and len(known) < 2:
        raise ValueError("Without a prompt, the history needs two known items: with one left out, one must be left.")
    limit = model.config.max_history
    read, kept = known[-limit:], known[-limit - 1 :]  # the one before the window moves in
    rows = torch.tensor([[tokens[place] for place in kept]] * (1 + len(read)), dtype=torch.long)  # (1 + read, kept)
    for row, column in enumerate(range(len(kept) - len(read), len(kept)), start=1):
        rows[row, column] = PAD_ID
    device = model.scoring_vectors.device
    with recommender.instruction:
        vectors = model.history_vectors(*model.known_histories(rows.to(device), None))  # (1 + read, width)
    chosen = model.scoring_vectors[torch.tensor(wanted, dtype=torch.long, device=device)]  # (items, width)
    scores = (vectors.float() @ chosen.float().T).cpu()  # (1 + read, items)
    if not scores.isfinite().all():
        raise ValueError("Scores are not finite: there is nothing to explain.")
    owed = torch.zeros(len(history), len(items))
    owed[read] = scores[0] - scores[1:]
    return [
        Explanation(item, score, parts)
        for item, score, parts in zip(items, scores[0].tolist(), owed.T.tolist(), strict=True)
    ]
