"""Evaluation: the rank of each user's target in the whole catalogue, computed on the device in batches."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.collator import has_target, label
from ..data.item_tokenizer import check_vocabulary
from ..data.token_rows import TokenRows
from ..modeling.histories import PAD_ID
from ..modeling.ranking import SCORES_AT_A_TIME, catalogue_scores, check_no_nan, mask_ineligible_items
from ..modeling.recommender import evaluation_mode
from .metrics import metrics_with_intervals
from .protocols import REFERENCE_PROTOCOL, STRICT, Protocol, protocol_of
from .reports import WHOLE_CATALOGUE, RankingReport


def _describe_candidates(candidates: TokenRows | None, retired: Tensor | None) -> str:
    without = "" if retired is None else f" without {len(retired)} retired item(s)"
    if candidates is None:
        return f"{WHOLE_CATALOGUE}{without}"
    fewest, most = candidates.lengths().min(), candidates.lengths().max()
    number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{number} sampled negatives{without}"


def rank_targets(
    model: nn.Module, batch: Mapping[str, Tensor], *, exclude_seen: bool, protocol: Protocol = STRICT
) -> tuple[Tensor, Tensor]:
    """Rank the last item of each row, as [`SequenceCollator`] with ``targets="last"`` marks it.

    Args:
        model: Any model with the interface of this package's; it scores the history, which is the row without its
            target.
        batch: ``input_ids``, ``attention_mask``, ``labels`` and, for sampled negatives, ``candidates``.
        exclude_seen: Whether the history is hidden from the ranking.
        protocol: What else is decided.

    Returns:
        The ranks ``(batch,)`` and the targets ``(batch,)``. A target of -100 means that the row has none; its rank is
        to be ignored. If a model cannot score an empty history, the rank after one is ``inf``.

    Raises:
        NaNScoresError: If a score is NaN.
    """
    labels = batch["labels"]
    answerable = has_target(labels)
    history = batch["attention_mask"] * (torch.arange(labels.shape[1], device=labels.device) < labels.shape[1] - 1)
    targets = labels[:, -1]
    if not getattr(model, "scores_first_item", True):  # an empty history cannot be scored: the target is a miss
        answerable = answerable & history.any(dim=1)
    ranks = torch.full(targets.shape, torch.inf, dtype=torch.float32, device=targets.device)
    if answerable.any():
        ids, mask = batch["input_ids"][answerable], history[answerable]
        score = _scores_of_recommender if hasattr(model, "history_vectors") else _scores_of_logits
        scores_of, vocab_size = score(model, ids, mask)
        ranks[answerable] = target_ranks(
            scores_of,
            vocab_size,
            targets[answerable],
            seen=ids.masked_fill(mask == 0, PAD_ID) if exclude_seen else None,
            candidates=batch["candidates"][answerable] if "candidates" in batch else None,
            retired=getattr(model, "retired", None),
            protocol=protocol,
            padding=protocol.counts_padding and getattr(getattr(model, "config", None), "head", None) == "linear",
        )
    return ranks, targets


class NaNScoresError(ValueError):
    """A model whose scores are NaN: nothing can be ranked."""


#: Takes row numbers, ``(some,)``, to their ``(some, vocab)`` float32 scores, which may be overwritten.
Scores = Callable[[Tensor], Tensor]


def _scores_of_recommender(model: Any, ids: Tensor, mask: Tensor) -> tuple[Scores, int]:
    with evaluation_mode(model):
        vectors = model.history_vectors(*model.known_histories(ids, mask))
    return lambda rows: catalogue_scores(vectors[rows], model.scoring_parts), model.config.vocab_size


def _scores_of_logits(model: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Scores, int]:
    logits = model(input_ids=ids, attention_mask=mask).logits
    return lambda rows: logits[rows].float(), logits.shape[1]


def target_ranks(
    scores_of: Scores,
    vocab_size: int,
    targets: Tensor,
    *,
    seen: Tensor | None = None,
    candidates: Tensor | None = None,
    retired: Tensor | None = None,
    protocol: Protocol = STRICT,
    padding: bool = False,
) -> Tensor:
    """Rank of each target among the eligible items, 1 is best.

    Args:
        scores_of: Computes the scores of some rows: at a time, as many rows as have 64 MiB of scores.
        vocab_size: Number of scores in a row.
        targets: ``(batch,)`` item ids.
        seen: ``(batch, any)`` item ids to hide. A target among them is a miss.
        candidates: ``(batch, any)`` negatives that the target is ranked among; ``None`` is the whole catalogue.
        retired: ``(any,)`` item ids to hide in every row. A target among them is a miss too.
        protocol: How ties and repeated candidates count, and how many places there are.
        padding: Whether ``[PAD]`` takes a place in the whole catalogue by its score.

    Returns:
        ``(batch,)`` float32; ``inf`` for a target that is hidden.

    Raises:
        NaNScoresError: If a score is NaN.
    """
    column = targets[:, None]
    if candidates is not None:
        candidates = torch.cat([candidates, column], dim=1)
    ranks = torch.empty(targets.shape, dtype=torch.float32, device=targets.device)
    for rows in torch.arange(len(targets), device=targets.device).split(max(SCORES_AT_A_TIME // vocab_size, 1)):
        scores = scores_of(rows)
        try:
            check_no_nan(scores)
        except ValueError as error:
            raise NaNScoresError(str(error)) from None
        own_seen, own_candidates = (None if ids is None else ids[rows] for ids in (seen, candidates))
        score = scores.gather(1, column[rows])
        padding_ahead = scores[:, PAD_ID] > score[:, 0]
        mask_ineligible_items(scores, 0, own_seen, own_candidates, retired, value=torch.nan)  # NaN is never counted
        is_miss = scores.gather(1, column[rows]).isnan().squeeze(1)
        if protocol.counts_repeats and own_candidates is not None:
            scores = scores.gather(1, own_candidates)
        ahead = (scores >= score).sum(dim=1) if protocol.ties_against else (scores > score).sum(dim=1) + 1
        if padding and own_candidates is None:
            ahead += padding_ahead
        if protocol.places is not None:
            is_miss |= ahead > protocol.places
        ranks[rows] = ahead.float().masked_fill(is_miss, torch.inf)  # float32: exact up to 2**24 items
    return ranks


@torch.no_grad()
def evaluate_ranking(
    model: nn.Module,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    exclude_seen: bool | None = None,
    batch_size: int = 256,
    protocol: str = "strict",
    without_target: int = 0,
) -> RankingReport:
    """Rank the last item of every row of ``dataset`` after the items before it.

    Args:
        model: `E4SRecModel`, `SASRecModel`, `PopularityModel` or any module with the same interface.
        dataset: ``validation`` or ``test`` of `leave_one_out`. A column ``candidates`` of raw ids, see
            `with_candidates`, ranks each target among those instead of the whole catalogue.
        tokenizer: The item tokenizer of the model.
        exclude_seen: Whether the items of the history are hidden, by default as the protocol has it. A target that is
            in the history is then a miss, as a retired target always is.
        batch_size: Users per batch.
        protocol: ``"strict"`` or ``"reference"``, see [`Protocol`].
        without_target: Number of users who have no row because they have too few items for a target. The reference has
            them in its means.

    Returns:
        A [`RankingReport`].

    Raises:
        NaNScoresError: If a score is NaN.
        ValueError: If no row has a target in the catalogue, the tokenizer does not fit the model, or
            ``exclude_seen`` is given beside a protocol that sets it.
    """
    rules, sampled = protocol_of(protocol), "candidates" in dataset.column_names
    if rules is REFERENCE_PROTOCOL and exclude_seen is not None:
        raise ValueError('protocol="reference" sets whether seen items are hidden: leave out exclude_seen.')
    if exclude_seen is None:
        exclude_seen = rules.hides_seen_negatives if sampled else rules.hides_seen
    if isinstance(model, PreTrainedModel):
        check_vocabulary(tokenizer, model.config.vocab_size)
    if not len(dataset):
        raise ValueError("There is nobody to evaluate: the data set is empty. Has any user three or more items?")
    rows, candidates = TokenRows.of_column(tokenizer, dataset, "item_ids"), None
    if sampled:
        candidates = TokenRows.of_column(tokenizer, dataset, "candidates")
        candidates.refuse_unknown(lambda row, place: dataset[row]["candidates"][place])
    by_length = np.argsort(-rows.lengths(), kind="stable")  # as recommend does
    device = next(iter([*model.parameters(), *model.buffers()])).device
    found, n_seen = [], 0
    with evaluation_mode(model), getattr(model, "kept_instruction", nullcontext)():
        for some in np.split(by_length, range(batch_size, len(by_length), batch_size)):
            batch = label(rows.batch(some), "last")
            if candidates is not None:
                batch["candidates"] = candidates.batch(some)["input_ids"]
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            ranks, targets = rank_targets(model, batch, exclude_seen=exclude_seen, protocol=rules)
            found.append(torch.stack([ranks, targets.float()]))
            n_seen += int((batch["input_ids"][:, :-1] == targets[:, None]).any(dim=1).sum())
    ranks, targets = torch.cat(found, dim=1).cpu().double().numpy()[:, np.argsort(by_length)]
    ranked = ranks[targets > 0]
    if not len(ranked):
        raise ValueError("No row has a target in the catalogue: is this the item tokenizer of this data set?")
    n_without_target = len(ranks) - len(ranked) + without_target
    if rules.counts_everyone:
        ranked = np.concatenate([ranked, np.full(n_without_target, np.inf)])
    return RankingReport(
        metrics=metrics_with_intervals(ranked),
        ranks=ranked,
        n_users=len(ranked),
        n_without_target=n_without_target,
        exclude_seen=exclude_seen,
        candidates=_describe_candidates(candidates, getattr(model, "retired", None)),
        n_seen=n_seen,
        rules=rules.name,
    )
