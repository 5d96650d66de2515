"""Evaluation: the rank of each user's target in the whole catalogue, batch by batch on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .data.collator import SequenceCollator, has_target
from .data.item_tokenizer import check_vocabulary
from .metrics import Estimate, metrics_with_intervals
from .modeling.evaluation_mode import evaluation_mode
from .modeling.histories import PAD_ID
from .modeling.ranking import target_ranks
from .modeling.recommender import Recommender


@dataclass(frozen=True)
class RankingReport:
    """What an evaluation found, and under which protocol.

    Attributes:
        metrics: Name to mean and 95% interval over users.
        ranks: ``(users,)`` rank of each target; ``inf`` for a target that is hidden with the seen items.
        n_users: Users in the means.
        n_without_target: Users left out because their target is not in the catalogue.
        exclude_seen: Whether the items of a user's history were hidden.
        candidates: What a target was ranked among: the whole catalogue, or how many sampled negatives; and how many
            items are retired.
    """

    metrics: dict[str, Estimate]
    ranks: NDArray[np.float64] = field(repr=False)
    n_users: int
    n_without_target: int
    exclude_seen: bool
    candidates: str

    @property
    def protocol(self) -> str:
        """The protocol in words."""
        seen = "hidden" if self.exclude_seen else "kept"
        left_out = f", {self.n_without_target} users without a target left out" if self.n_without_target else ""
        return f"ranked among {self.candidates}, seen items {seen}, {self.n_users} users{left_out}"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the ranks, for JSON."""
        return {
            "metrics": {name: estimate._asdict() for name, estimate in self.metrics.items()},
            "n_users": self.n_users,
            "n_without_target": self.n_without_target,
            "exclude_seen": self.exclude_seen,
            "candidates": self.candidates,
        }


def _describe_candidates(dataset: Dataset, retired: Tensor | None) -> str:
    without = "" if retired is None else f" without {len(retired)} retired item(s)"
    if "candidates" not in dataset.column_names:
        return f"the whole catalogue{without}"
    counts = {len(candidates) for candidates in dataset["candidates"]}
    number = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{number} sampled negatives{without}"


def rank_targets(model: nn.Module, batch: Mapping[str, Tensor], *, exclude_seen: bool) -> tuple[Tensor, Tensor]:
    """Rank the last item of each row, as [`SequenceCollator`] with ``targets="last"`` marks it.

    Args:
        model: Any model of the dialect; it scores the history, which is the row without its target.
        batch: ``input_ids``, ``attention_mask``, ``labels`` and, for sampled negatives, ``candidates``.
        exclude_seen: Whether the history is hidden from the ranking.

    Returns:
        The ranks ``(batch,)`` and the targets ``(batch,)``. A target of -100 means that the row has none, and its
        rank means nothing. A model that cannot score without a history misses where there is none: the rank is ``inf``.

    Raises:
        ValueError: If a score is NaN.
    """
    labels = batch["labels"]
    answerable = has_target(labels)
    history = batch["attention_mask"] * (torch.arange(labels.shape[1], device=labels.device) < labels.shape[1] - 1)
    targets = labels[:, -1]
    if not getattr(model, "scores_first_item", True):  # nothing to go by: the target stays a miss
        answerable = answerable & history.any(dim=1)
    ranks = torch.full(targets.shape, torch.inf, device=targets.device)
    if answerable.any():
        ids, mask = batch["input_ids"][answerable], history[answerable]
        candidates = batch["candidates"][answerable] if "candidates" in batch else None
        if isinstance(model, Recommender):  # goes through the catalogue in chunks
            ranks[answerable] = model.target_ranks(
                ids, mask, targets[answerable], exclude_seen=exclude_seen, candidates=candidates
            )
        else:
            scores = model(input_ids=ids, attention_mask=mask).logits.to(torch.float32, copy=True)  # for writing over
            seen = ids.masked_fill(mask == 0, PAD_ID) if exclude_seen else None
            ranks[answerable] = target_ranks(
                [(0, scores)],
                targets[answerable],
                seen=seen,
                candidates=candidates,
                retired=getattr(model, "retired", None),
            )
    return ranks, targets


@torch.no_grad()
def evaluate_ranking(
    model: nn.Module,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    exclude_seen: bool = True,
    batch_size: int = 256,
) -> RankingReport:
    """Rank the last item of every row of ``dataset`` after the items before it.

    Args:
        model: `E4SRecModel`, `SASRecModel`, `PopularityModel` or any module of the same dialect.
        dataset: ``validation`` or ``test`` of `leave_one_out`. A column ``candidates`` of raw ids, see
            `with_candidates`, ranks each target among those instead of the whole catalogue.
        tokenizer: The item tokenizer of the model.
        exclude_seen: Whether the items of the history are hidden. A target that is in the history is then a miss, as
            a retired target always is.
        batch_size: Users a batch; they are ranked where the model is.

    Returns:
        A [`RankingReport`].

    Raises:
        ValueError: If a score is NaN, no row has a target in the catalogue, or the tokenizer is not the model's.
    """
    if isinstance(model, PreTrainedModel):
        check_vocabulary(tokenizer, model.config.vocab_size)
    if not len(dataset):
        raise ValueError("There is nobody to evaluate: the data set is empty. Has every user fewer than three items?")
    collate = SequenceCollator(tokenizer, targets="last")
    columns = [name for name in ("item_ids", "candidates") if name in dataset.column_names]
    by_length = np.argsort([-len(items) for items in dataset["item_ids"]], kind="stable")  # as recommend does
    loader = DataLoader(dataset.select_columns(columns), batch_size, sampler=by_length.tolist(), collate_fn=collate)
    device = next(iter([*model.parameters(), *model.buffers()])).device
    found = []
    with evaluation_mode(model):
        for batch in loader:
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            found.append(torch.stack([part.float() for part in rank_targets(model, batch, exclude_seen=exclude_seen)]))
    ranks, targets = torch.cat(found, dim=1).cpu().double().numpy()[:, np.argsort(by_length)]
    ranked = ranks[targets > 0]
    if not len(ranked):
        raise ValueError("No row has a target in the catalogue: is this the item tokenizer of this data set?")
    return RankingReport(
        metrics=metrics_with_intervals(ranked),
        ranks=ranked,
        n_users=len(ranked),
        n_without_target=len(ranks) - len(ranked),
        exclude_seen=exclude_seen,
        candidates=_describe_candidates(dataset, getattr(model, "retired", None)),
    )


def results_table(reports: Mapping[str, RankingReport], names: Sequence[str] = ("hr@10", "ndcg@10")) -> str:
    """A Markdown table: a row a model, a column a metric, each mean with its interval."""
    header = ["model", *(name.upper() for name in names)]
    rows = [
        [model, *(f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in (report.metrics[name] for name in names))]
        for model, report in reports.items()
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
