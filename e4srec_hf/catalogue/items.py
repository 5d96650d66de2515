"""A catalogue that changes without retraining: items are added at its end, retired and restored."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from ..data.item_tokenizer import check_vocabulary, extend_item_tokenizer, item_token_ids, refuse_ids
from ..modeling import E4SRecModel, SASRecModel
from ..modeling.catalogue_checks import check_finite
from ..modeling.histories import FIRST_ITEM_ID
from .head_fit import HeadFit, fit_rows

logger = logging.get_logger(__name__)


class GrownCatalogue(NamedTuple):
    """What [`add_items`] returns.

    Attributes:
        tokenizer: The item tokenizer with the new items; the old one does not fit the model any more.
        fit: How well item vectors predict the rows of a linear head; ``None`` if items are scored by their vectors.
    """

    tokenizer: PreTrainedTokenizerFast
    fit: HeadFit | None


def add_items(
    model: E4SRecModel | SASRecModel, tokenizer: PreTrainedTokenizerBase, raw_ids: Iterable[str], vectors: Any
) -> GrownCatalogue:
    """Add items at the end of the catalogue of a trained model. Scores of the old ones stay as they were, to the bit.

    If items are scored by their vectors (SASRec, and E4SRec with the tied head) nothing more is needed. A linear head
    gets rows that are fitted by least squares, see [`HeadFit`]: read ``fit.r2_held_out`` before you use it. The fit
    uses the rows that the head had before it grew for the first time, without those of retired items.

    The model is changed in place: do not recommend meanwhile. After an error, nothing is changed. Save and push the
    model with the new tokenizer. To train it further, make a new trainer, and empty ``grown_from`` of its config
    afterwards.

    Args:
        model: The model.
        tokenizer: Its item tokenizer.
        raw_ids: The new ids, each once.
        vectors: ``(new, item dimension)`` their item vectors, a tensor or an array, from the same source as the item
            table. If the table was trained with the model (``train_item_embeddings``), that is the trained table.

    Returns:
        [`GrownCatalogue`]: the new item tokenizer and, for a linear head, the fit.

    Raises:
        ValueError: If the tokenizer is not the model's, an id comes twice, is in the catalogue already or cannot be an
            id, the vectors hold NaN or have the wrong shape, or a linear head has no finite rows to fit.
        TypeError: If the model is not of this package.
    """
    _check_pair(model, tokenizer)
    ids = _listed(raw_ids)
    retired = set(tokenizer.convert_ids_to_tokens(model.config.retired_items))
    if known := [item for item in ids if isinstance(item, str) and item in retired]:
        refuse_ids("are retired, restore_items brings them back as they were", known)
    grown = extend_item_tokenizer(tokenizer, ids)
    table = model.item_embeddings.weight
    vectors = _checked_vectors(vectors, len(ids), table.shape[1])
    fit = None
    if isinstance(model, E4SRecModel) and model.config.head == "linear":
        rows, fit = _fit_to_trained_rows(model, vectors)
        head = _with_rows(model.score.weight, rows)
        table = _with_rows(table, vectors)
        model.score.weight, model.score.out_features = head, len(head)
    else:
        table = _with_rows(table, vectors)
    model.item_embeddings.weight, model.item_embeddings.num_embeddings = table, len(table)
    model.config.grown_from = [*model.config.grown_from, model.config.vocab_size]
    model.config.vocab_size = len(table)
    return GrownCatalogue(grown, fit)


def remove_items(model: E4SRecModel | SASRecModel, tokenizer: PreTrainedTokenizerBase, raw_ids: Iterable[str]) -> None:
    """Retire items: they are never recommended again, not even as candidates, and as targets they are certain misses.

    They stay in the tokenizer and in the tables: histories that hold them are read as before, ``logits`` have their
    scores, and [`restore_items`] brings them back. ``retired_items`` of the config keeps their ids, and is saved.

    Args:
        model: The model; its config is changed in place.
        tokenizer: Its item tokenizer.
        raw_ids: Ids of items to retire.

    Raises:
        ValueError: If the tokenizer is not the model's, an id is not in the catalogue or retired already, or nothing
            would be left to recommend. Nothing is changed then.
    """
    tokens = _tokens_of(model, tokenizer, raw_ids)
    before = set(model.config.retired_items)
    if again := [item for item, token in tokens.items() if token in before]:
        refuse_ids("are retired already", again)
    after = before.union(tokens.values())
    if len(after) == model.config.vocab_size - FIRST_ITEM_ID:
        raise ValueError("Nothing would be left to recommend: every item of the catalogue would be retired.")
    model.config.retired_items = sorted(after)


def restore_items(model: E4SRecModel | SASRecModel, tokenizer: PreTrainedTokenizerBase, raw_ids: Iterable[str]) -> None:
    """Undo [`remove_items`]: the items are recommended again, with the scores that they had before.

    Args:
        model: The model; its config is changed in place.
        tokenizer: Its item tokenizer.
        raw_ids: Ids of retired items.

    Raises:
        ValueError: If the tokenizer is not the model's, or an id is not that of a retired item. Nothing is changed
            then.
    """
    tokens = _tokens_of(model, tokenizer, raw_ids)
    before = set(model.config.retired_items)
    if strangers := [item for item, token in tokens.items() if token not in before]:
        refuse_ids("are not retired", strangers)
    model.config.retired_items = sorted(before.difference(tokens.values()))


def _check_pair(model: E4SRecModel | SASRecModel, tokenizer: PreTrainedTokenizerBase) -> None:
    if not isinstance(model, E4SRecModel | SASRecModel):
        raise TypeError(
            f"The model must be an E4SRecModel or a SASRecModel of this package, not {type(model)}: "
            "import e4srec_hf before it is loaded, and leave out trust_remote_code."
        )
    check_vocabulary(tokenizer, model.config.vocab_size)


def _listed(raw_ids: Iterable[str]) -> list[str]:
    if isinstance(raw_ids, str):
        raise ValueError(f"raw_ids must be a list of ids; this is one id: {raw_ids!r}")
    ids = list(raw_ids)
    if not ids:
        raise ValueError("raw_ids is empty: give at least one id.")
    return ids


def _tokens_of(
    model: E4SRecModel | SASRecModel, tokenizer: PreTrainedTokenizerBase, raw_ids: Iterable[str]
) -> dict[str, int]:
    """Raw id to token of items that must be in the catalogue."""
    _check_pair(model, tokenizer)
    ids = _listed(raw_ids)
    if strangers := [item for item in ids if not isinstance(item, str)]:
        refuse_ids("are not strings (convert them with str())", strangers)
    tokens = dict(zip(ids, item_token_ids(tokenizer, ids), strict=True))
    if unknown := [item for item, token in tokens.items() if token < FIRST_ITEM_ID]:
        refuse_ids("are not in the catalogue", unknown)
    return tokens


def _checked_vectors(vectors: Any, n_items: int, width: int) -> Tensor:
    vectors = torch.as_tensor(vectors).detach().float()
    if vectors.shape != (n_items, width):
        raise ValueError(
            f"vectors have the shape {tuple(vectors.shape)}, but {n_items} new item(s) in an item table {width} wide "
            f"need {(n_items, width)}: a row an id, in the order of raw_ids."
        )
    check_finite(vectors, "vectors")
    return vectors


@torch.no_grad()
def _fit_to_trained_rows(model: E4SRecModel, vectors: Tensor) -> tuple[Tensor, HeadFit]:
    """Rows of the head for new vectors. Rows that were fitted themselves would say how well a fit fits itself."""
    config = model.config
    end = config.grown_from[0] if config.grown_from else config.vocab_size
    retired = set(config.retired_items)
    trained = [item for item in range(FIRST_ITEM_ID, end) if item not in retired]
    if not trained:
        raise ValueError("The head has no trained row of an item that is not retired: there is nothing to fit.")
    rows, fit = fit_rows(model.item_embeddings.weight[trained], model.score.weight[trained], vectors)
    if not rows.isfinite().all():
        raise ValueError(
            "The rows of the head or the item vectors hold NaN or infinity: nothing can be fitted to them."
        )
    if fit.n_items < config.item_embedding_dim + 2:
        logger.warning(
            f"The rows of the head are fitted to {fit.n_items} items with vectors of {config.item_embedding_dim} "
            "dimensions: any rows would fit, and nothing tells how good those of the new items are."
        )
    return rows, fit


def _with_rows(weight: Tensor, rows: Tensor) -> nn.Parameter:
    """A longer copy, in memory of its own."""
    longer = torch.cat([weight.detach(), rows.to(weight.device, weight.dtype)])
    return nn.Parameter(longer, requires_grad=weight.requires_grad)
