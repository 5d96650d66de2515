"""Where a fresh adapter starts: item vectors as long as the base's own, and a head that says what SASRec says.

A base with LoRA at its start computes some fixed function of a history. A linear map of its states predicts the states
of SASRec quite well, and a head behind that map ranks nearly as SASRec does, before anything is trained.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from ..data.collator import SequenceCollator
from ..modeling.bases import text_embeddings
from ..modeling.histories import FIRST_ITEM_ID, known_items, pack_right_padded, target_positions
from ..modeling.recommender import evaluation_mode
from .prepare import prepare_for_training

#: Length of the lifted item vectors, in mean lengths of a text token's vector as it enters the first layer.
LENGTH = 1.0
#: Sizes of the first scores that are tried, in scores of SASRec, which is too sure of what it was trained on.
SIZES = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0]
#: Targets that choose the size, at most.
TARGETS_TO_CHOOSE = 1000
#: By how much a step of Adam may move a score, if the state is one standard deviation from the mean in each dimension.
HEAD_STEP = 0.04
#: Share of the root mean square of its weights by which the input projection may change in a step.
PROJECTION_STEP = 1e-3
#: Penalties that are tried, in mean squares of a dimension of the base's states.
PENALTIES = [10.0**power for power in range(-6, 2)]
#: Targets whose states are fitted, for each dimension of a state, and at least.
TARGETS_A_DIMENSION, LEAST_TARGETS = 8, 4096
#: One batch of histories in so many is held out, to choose the penalty.
FOLDS = 5
#: Histories that are read at a time.
ROWS_AT_A_TIME = 64
#: Tokens, and items, whose vectors are measured.
TOKENS_TO_MEASURE = 4096


class StartFit(NamedTuple):
    """How well a linear map of the base's states predicts those of SASRec.

    Attributes:
        n_targets: Targets whose states were fitted.
        penalty: The penalty of the ridge regression that was best on held-out histories.
        r2_held_out: Fraction of the squares of SASRec's states that it explains there.
        length: Mean length of the lifted item vectors.
        size: By how much the first scores were multiplied for the least loss on validation; 1 where there was none.
        spread: Sum over the dimensions of the standard deviation of the base's states.
    """

    n_targets: int
    penalty: float
    r2_held_out: float
    length: float
    size: float
    spread: float


@torch.no_grad()
def start_from_sasrec(
    model: Any,
    sasrec: Any,
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    validation: Dataset | None = None,
    length: float = LENGTH,
    seed: int = 0,
) -> StartFit:
    """Let a fresh adapter rank nearly as the SASRec that its item vectors come from.

    The input projection is scaled, so that lifted vectors are as long as those of text. Then a ridge regression
    predicts SASRec's states from the base's, over real histories, and the head starts as its solution: SASRec's item
    vectors behind that map (``"linear"``), or the map alone (``"tied"``). Of a wider item table, SASRec's vectors are
    the first columns.

    Args:
        model: A fresh model with ``projection_init="orthogonal"``. Its input projection and head are changed in place.
        sasrec: The SASRec of its item table, or of the first columns of that, on the same device.
        rows: Rows with ``item_ids`` to fit to: those of the training.
        tokenizer: The item tokenizer of both.
        validation: Rows whose last item is the target: the first scores get the size with the least loss on them.
            Without rows they are as large as SASRec's.
        length: Mean length of the lifted vectors, in mean lengths of the base's text vectors.
        seed: Of the choice of histories.

    Returns:
        [`StartFit`]: how good the fit is.

    Raises:
        ValueError: If the SASRec is not that of the item table, there are too few histories to fit to, or the states
            of the base are not finite.
    """
    width = sasrec.config.hidden_size
    table = model.item_embeddings.weight[:, :width]
    if not torch.equal(sasrec.item_embeddings.weight.to(table), table):
        raise ValueError("The item table of the adapter is not that of the SASRec: give the one it was taken from.")
    prepare_for_training(model)
    lifted = scale_to_text(model, length)
    fitted, held_out = _Moments(), _Moments()
    wanted = max(TARGETS_A_DIMENSION * model.score.in_features, LEAST_TARGETS)
    for number, pair in enumerate(_states(model, sasrec, rows, tokenizer, seed)):
        (fitted if number % FOLDS else held_out).add(*pair)
        if fitted.n + held_out.n >= wanted:
            break
    if not fitted.n:
        raise ValueError(f"{len(rows)} histories are too few to fit the start of the head to.")
    if not (fitted.inner.isfinite().all() and held_out.inner.isfinite().all()):
        raise ValueError(
            "The states of the base hold NaN or infinity: it is damaged, or its dtype is too small for it."
        )
    maps = {penalty: fitted.ridge(penalty) for penalty in PENALTIES}
    best = min(maps, key=lambda penalty: held_out.squared_error(maps[penalty]))
    r2 = 1 - held_out.squared_error(maps[best]) / held_out.squared_error(torch.zeros_like(maps[best]))
    fitted.merge(held_out)
    solution = fitted.ridge(best).T.to(table)  # (item dimension, hidden)
    start = table @ solution if model.config.head == "linear" else solution
    model.score.weight.zero_()  # what stands beside SASRec's vectors adds nothing to the first scores
    model.score.weight[: len(start)] = start
    size = 1.0 if validation is None or not len(validation) else best_size(model, validation, tokenizer)
    model.score.weight.mul_(size)
    return StartFit(fitted.n, best, r2, lifted, size, fitted.spread())


@torch.no_grad()
def best_size(model: Any, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> float:
    """The one of `SIZES` that the scores are to be multiplied by for the least loss on the last items of ``rows``."""
    collator = SequenceCollator(tokenizer, "last")
    device = model.item_embeddings.weight.device
    losses = torch.zeros(len(SIZES), dtype=torch.float64)
    with evaluation_mode(model), model.kept_instruction():
        for start in range(0, min(len(rows), TARGETS_TO_CHOOSE), ROWS_AT_A_TIME):
            chosen = range(start, min(start + ROWS_AT_A_TIME, len(rows), TARGETS_TO_CHOOSE))
            batch = collator([rows[number] for number in chosen])
            inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask", "labels")}
            logits = model(**inputs).logits.float()  # (targets, vocab)
            targets = inputs["labels"][inputs["labels"] >= FIRST_ITEM_ID]
            losses += torch.stack([F.cross_entropy(size * logits, targets, reduction="sum") for size in SIZES]).cpu()
    return SIZES[int(losses.argmin())]


def rates_of_parts(model: Any, fit: StartFit) -> dict[str, float]:
    """Learning rates for input projection and head after `start_from_sasrec`.

    Adam moves each weight by about its rate, whatever the gradient is. A score is a sum over the dimensions of a
    state: the more the states of a base vary, the smaller the rate of the head must be for equal steps of the scores.
    In a tied head the item vectors come in too. The rate of the projection is in proportion to the size of its weights.

    Args:
        model: The model.
        fit: What `start_from_sasrec` returned for it.

    Returns:
        Name of the part to its rate, as `RankingTrainer` takes them.
    """
    factor = 1.0
    if model.config.head == "tied":
        factor = float(model.item_embeddings.weight[FIRST_ITEM_ID:].detach().abs().sum(dim=1).mean())
    size = float(model.input_proj.weight.detach().square().mean().sqrt())
    return {"score": HEAD_STEP / (factor * fit.spread), "input_proj": PROJECTION_STEP * size}


@torch.no_grad()
def scale_to_text(model: Any, length: float) -> float:
    """Scale the input projection: lifted item vectors get ``length`` mean lengths of the base's text vectors.

    Those are taken as they enter the first layer: some bases scale them inside their embedding layer.

    Returns:
        The mean length of the lifted vectors.
    """
    tokens = text_embeddings(model.base)
    ids = torch.arange(tokens.num_embeddings, device=tokens.weight.device)
    some = ids[:: max(len(ids) // TOKENS_TO_MEASURE, 1)]
    wanted = length * tokens(some).float().norm(dim=-1).mean()
    items = model.item_embeddings.weight[FIRST_ITEM_ID:]
    found = model.input_proj(items[:: max(len(items) // TOKENS_TO_MEASURE, 1)]).norm(dim=-1).mean()
    if found > 0:
        model.input_proj.weight.mul_(wanted / found)
        model.input_proj.bias.mul_(wanted / found)
    return float(wanted)


def _states(
    model: Any, sasrec: Any, rows: Dataset, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The states of base and SASRec for the targets of shuffled histories, ``(targets, hidden)`` each, by batches."""
    collator = SequenceCollator(tokenizer, "all", max_history=model.config.max_history, first_item=False)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    size = min(ROWS_AT_A_TIME, -(-len(order) // (2 * FOLDS)))
    device = model.item_embeddings.weight.device
    for start in range(0, len(order), max(size, 1)):
        batch = collator([rows[number] for number in order[start : start + size]])
        ids, mask, labels = (batch[name].to(device) for name in ("input_ids", "attention_mask", "labels"))
        known = known_items(ids, mask)
        targets, columns = target_positions(ids, labels)
        preceding = (known.cumsum(1) - known.long())[targets, columns]
        items, targets, preceding = pack_right_padded(ids, known)[0], targets[preceding > 0], preceding[preceding > 0]
        if len(targets):
            with evaluation_mode(model), evaluation_mode(sasrec):
                read = model.reader.read(model.reading_task(), items, model.project, targets, preceding)
                yield read, sasrec.target_vectors(items, targets, preceding)


class _Moments:
    """Sums of products of states and what is to be predicted from them, enough for ridge regression and its errors."""

    def __init__(self) -> None:
        self.n = 0
        self.total = self.inner = self.cross = self.outer = torch.zeros((), dtype=torch.float64)

    def add(self, states: Tensor, wanted: Tensor) -> None:
        """Add ``(targets, hidden)`` states and the ``(targets, width)`` vectors to predict."""
        states, wanted = states.detach().cpu().double(), wanted.detach().cpu().double()
        self.n += len(states)
        self.total = self.total + states.sum(dim=0)  # (hidden,)
        self.inner = self.inner + states.T @ states  # (hidden, hidden)
        self.cross = self.cross + states.T @ wanted  # (hidden, width)
        self.outer = self.outer + wanted.square().sum()

    def merge(self, other: "_Moments") -> None:
        """Add the sums of another."""
        self.n, self.total, self.inner = self.n + other.n, self.total + other.total, self.inner + other.inner
        self.cross, self.outer = self.cross + other.cross, self.outer + other.outer

    def ridge(self, penalty: float) -> Tensor:
        """``(hidden, width)`` map with the least squared error and, in mean squares of a dimension, ``penalty``."""
        identity = torch.eye(len(self.inner), dtype=torch.float64)
        return torch.linalg.solve(self.inner + penalty * self.inner.diagonal().mean() * identity, self.cross)

    def spread(self) -> float:
        """Sum over the dimensions of the standard deviation of the states."""
        variance = self.inner.diagonal() / self.n - (self.total / self.n).square()
        return float(variance.clamp_min(0).sqrt().sum())

    def squared_error(self, solution: Tensor) -> float:
        """Sum of the squared errors of a ``(hidden, width)`` map."""
        return float(self.outer - 2 * (solution * self.cross).sum() + (solution * (self.inner @ solution)).sum())
