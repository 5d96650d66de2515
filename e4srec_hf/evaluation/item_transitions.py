"""The item-transition graph: a strong baseline without training, which walks a few steps on from the last items."""

import logging
import warnings
from functools import cache
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from ..data.token_rows import TokenRows
from ..modeling.histories import FIRST_ITEM_ID
from ..modeling.ranking import SCORES_AT_A_TIME
from .ranking import evaluate_ranking

logger = logging.getLogger(__name__)


class TransitionSettings(NamedTuple):
    """What the graph is made of and how it is walked.

    Attributes:
        window: Two items of a training history are joined if they are at most so many places apart. An edge weighs the
            sum of 1 / distance over all such pairs.
        backward: Weight of an edge against the order of the history; 0 leaves these out.
        discount: Edges are divided by this power of what leads to their target: 0 favours popular items, 1 does not.
        last_items: A walk begins at one of so many last items of the history.
        recency: Weight of an item against that of the item after it.
        hops: Steps of the longest walk.
        hop_decay: Weight of a walk against that of one that is a step shorter.
    """

    window: int = 2
    backward: float = 0.5
    discount: float = 0.5
    last_items: int = 5
    recency: float = 0.7
    hops: int = 2
    hop_decay: float = 0.3


#: Values to choose from, in the order in which they are tried.
GRID: dict[str, tuple[Any, ...]] = {
    "last_items": (1, 2, 5, 10),
    "window": (1, 2, 4, 8, 16),
    "backward": (0.0, 0.5, 1.0),
    "discount": (0.0, 0.25, 0.5),
    "recency": (0.3, 0.5, 0.7, 0.9),
    "hops": (1, 2, 3),
    "hop_decay": (0.3, 0.6, 1.0),
}


class ItemTransitions(nn.Module):
    """Scores every item by the chance that a short walk from the last items of the history ends there.

    The items that no walk reaches come after all others, the popular ones first. The idea is that of arXiv 2605.07125
    and arXiv 2410.16458, which add the similarity of texts; this one knows items by their IDs alone.

    Args:
        steps: Sparse ``(vocab, vocab)``: the chance to go from an item to another, see [`step_chances`].
        counts: ``(vocab,)`` occurrences of the items in the training histories.
        settings: The settings of the walk.
    """

    arrivals: Tensor
    unreached: Tensor

    def __init__(self, steps: Tensor, counts: Tensor, settings: TransitionSettings) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            self.register_buffer("arrivals", steps.t().to_sparse_csr())  # (vocab, vocab) rows are where a step ends
        self.register_buffer("unreached", counts / counts.max().clamp(min=1) - 2)  # (vocab,) -2 to -1
        self.settings = settings

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> CausalLMOutput:
        """``logits``: ``(batch, vocab)``."""
        settings = self.settings
        known = (attention_mask != 0) & (input_ids >= FIRST_ITEM_ID)
        items_after = known.flip(1).cumsum(1).flip(1) - 1  # (batch, length)
        begins = known & (items_after < settings.last_items)
        walks = torch.zeros(len(self.unreached), len(input_ids), device=input_ids.device)  # (vocab, batch)
        place = input_ids[begins], begins.nonzero(as_tuple=True)[0]
        walks.index_put_(place, settings.recency ** items_after[begins].float(), accumulate=True)
        scores = torch.zeros_like(walks)
        for hop in range(settings.hops):
            walks = self.arrivals @ walks
            scores += settings.hop_decay**hop * walks
        logits = torch.where(scores > 0, scores, self.unreached[:, None]).t()
        return CausalLMOutput(logits=logits)  # type: ignore[arg-type]


def transition_weights(rows: TokenRows, size: int, window: int) -> Tensor:
    """Sparse ``(size, size)``: for each item and one after it, the sum of 1 / distance within ``window`` places."""
    tokens = torch.from_numpy(rows.tokens)
    row_of = torch.repeat_interleave(torch.from_numpy(rows.lengths()))
    pairs, weights = [], []
    for distance in range(1, window + 1):
        before, after = tokens[:-distance], tokens[distance:]
        joined = (row_of[:-distance] == row_of[distance:]) & (torch.minimum(before, after) >= FIRST_ITEM_ID)
        pairs.append(torch.stack([before[joined], after[joined]]))
        weights.append(torch.full((int(joined.sum()),), 1 / distance))
    shape = (size, size)
    return torch.sparse_coo_tensor(torch.cat(pairs, dim=1), torch.cat(weights), shape, check_invariants=True).coalesce()


def step_chances(weights: Tensor, backward: float, discount: float) -> Tensor:
    """Sparse ``(vocab, vocab)``: the edges of both directions, discounted; each row with an edge sums to 1.

    Args:
        weights: See [`transition_weights`].
        backward: See [`TransitionSettings`].
        discount: See [`TransitionSettings`].
    """
    edges = (weights + backward * weights.t()).coalesce() if backward else weights
    (sources, targets), values = edges.indices(), edges.values()
    values = values / _sums(values, targets, len(weights))[targets] ** discount
    values = values / _sums(values, sources, len(weights))[sources]
    return torch.sparse_coo_tensor(edges.indices(), values, edges.shape, check_invariants=True)


def _sums(values: Tensor, places: Tensor, size: int) -> Tensor:
    return torch.zeros(size, device=values.device).index_add_(0, places, values)


def best_item_transitions(
    train: Dataset,
    validation: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    device: str = "cpu",
    *,
    users: int = 4000,
) -> tuple[ItemTransitions, dict[str, float]]:
    """The walk with the best settings on validation, and a dictionary of these and its metrics there.

    One setting after the other takes the best value of `GRID`, the others being held, until a round changes none.

    Args:
        train: Rows with ``item_ids``.
        validation: Rows whose last item is the target.
        tokenizer: The item tokenizer.
        device: Where it computes.
        users: If there are more, so many of them are drawn to choose the settings; the metrics are those of all.
    """
    drawn = validation.shuffle(seed=0).select(range(min(users, len(validation))))
    batch_size = min(max(SCORES_AT_A_TIME // len(tokenizer), 1), 256)
    rows, size = TokenRows.of_column(tokenizer, train, "item_ids"), len(tokenizer)
    counts = torch.bincount(torch.from_numpy(rows.tokens), minlength=size).float().to(device)

    def make(settings: TransitionSettings) -> ItemTransitions:
        weights = transition_weights(rows, size, settings.window).to(device)
        return ItemTransitions(step_chances(weights, settings.backward, settings.discount), counts, settings)

    @cache
    def ndcg_of(settings: TransitionSettings) -> float:
        report = evaluate_ranking(make(settings), drawn, tokenizer, batch_size=batch_size)
        logger.info(f"Item transitions: {report.metrics['ndcg@10'].value:.4f} {settings}")
        return report.metrics["ndcg@10"].value

    best, before = TransitionSettings(), None
    while best != before:
        before = best
        for name, values in GRID.items():
            options = [best, *(best._replace(**{name: value}) for value in values)]  # of equals, what it was
            best = max(options, key=ndcg_of)
    model = make(best)
    metrics = evaluate_ranking(model, validation, tokenizer, batch_size=batch_size).metrics
    return model, best._asdict() | {name: metrics[name].value for name in ("hr@10", "ndcg@10")}
