"""A catalogue that changes without retraining: items are added at its end, retired and restored."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from ..data.item_tokenizer import check_vocabulary, extend_item_tokenizer, item_token_ids, refuse_ids
from ..data.titles import check_maps_ids, problem_of_title
from ..modeling import E4SRecModel, SASRecModel
from ..modeling.histories import FIRST_ITEM_ID
from ..modeling.item_config import check_finite
from .head_fit import HeadFit, fit_rows
from .titles import Encoder, read_titles, rows_of_titles, titles_beside

logger = logging.get_logger(__name__)


class GrownCatalogue(NamedTuple):
    """What [`add_items`] returns.

    Attributes:
        tokenizer: The item tokenizer with the new items; the old one does not fit the model any more.
        fit: How well the item vectors, or the titles, predict what items are scored by: rows of a linear head, or item
            vectors. ``None`` if items are scored by vectors that were given.
    """

    tokenizer: PreTrainedTokenizerFast
    fit: HeadFit | None


def add_items(
    model: E4SRecModel | SASRecModel,
    tokenizer: PreTrainedTokenizerBase,
    raw_ids: Iterable[str],
    vectors: Any = None,
    *,
    titles: Iterable[str] | None = None,
    catalogue_titles: Mapping[str, str] | None = None,
    encode: Encoder | None = None,
) -> GrownCatalogue:
    """Add items at the end of the catalogue of a trained model. Scores of the old ones stay as they were, to the bit.

    **With vectors.** If items are scored by their vectors (SASRec, and E4SRec with the tied head) nothing more is
    needed. A linear head gets rows that are fitted by least squares, see [`HeadFit`]: read ``fit.r2_held_out`` before
    you use it. The fit uses the rows that the head had before it grew for the first time, without those of retired
    items.

    **With titles.** Items that nobody has touched have no vectors yet. A ridge regression from the titles of the same
    items to their vectors predicts them, and the rows of a linear head likewise. The penalty is chosen by the exact
    leave-one-out error; ``fit`` says how well it does. The base reads the titles, as it was before LoRA. Save the model
    with the new titles: `save_trained(model, tokenizer, folder, titles=…)`.

    The model is changed in place: do not recommend meanwhile. After an error, nothing is changed. Save and push the
    model with the new tokenizer. To train it further, make a new trainer, and empty ``grown_from`` of its config
    afterwards.

    Args:
        model: The model.
        tokenizer: Its item tokenizer.
        raw_ids: The new ids, each once.
        vectors: ``(new, item dimension)`` their item vectors, a tensor or an array, from the same source as the item
            table. If the table was trained with the model (``train_item_embeddings``), that is the trained table.
        titles: Their titles, in the order of ``raw_ids``, instead of vectors.
        catalogue_titles: Raw id to title of the items that the model has, where they have one; by default those in
            ``item_titles.json`` where the model was saved or loaded.
        encode: What turns a list of titles into ``(titles, any width)`` vectors; by default `text_vectors` with the
            model's base.

    Returns:
        [`GrownCatalogue`]: the new item tokenizer and how good the fit is.

    Raises:
        ValueError: If the tokenizer is not the model's, an id comes twice, is in the catalogue already or cannot be an
            id, not exactly one of vectors and titles is given, the vectors hold NaN or have the wrong shape, there are
            no titles to learn from or nothing to read them with, or there are no finite rows to fit.
        TypeError: If the model is not of this package, ``catalogue_titles`` is no mapping or ``encode`` no function.
    """
    _check_pair(model, tokenizer)
    ids = _listed(raw_ids)
    retired = set(tokenizer.convert_ids_to_tokens(model.config.retired_items))
    if known := [item for item in ids if isinstance(item, str) and item in retired]:
        refuse_ids("are retired, restore_items brings them back as they were", known)
    grown = extend_item_tokenizer(tokenizer, ids)
    if (vectors is None) == (titles is None):
        raise ValueError("Give the vectors of the new items or their titles, one of the two.")
    head = model.score if isinstance(model, E4SRecModel) and model.config.head == "linear" else None
    table = model.item_embeddings.weight
    fit = rows = None
    if titles is None:
        vectors = _checked_vectors(vectors, len(ids), table.shape[1])
        if head is not None:
            rows, fit = _fit_to_trained_rows(model, head.weight, vectors)
    else:
        new_titles = _checked_titles(titles, len(ids))
        catalogue_titles = titles_beside(model) if catalogue_titles is None else catalogue_titles
        check_maps_ids(catalogue_titles, "catalogue_titles")
        if encode is not None and not callable(encode):
            raise TypeError(f"encode must be a function from a list of titles to vectors, not {encode!r:.60}.")
        trained = _trained_items(model)
        names = dict(zip(trained, tokenizer.convert_ids_to_tokens(trained), strict=True))
        read = read_titles(model, names, new_titles, catalogue_titles, encode)
        vectors, fit = rows_of_titles(read, table)
        if head is not None:
            rows, fit = rows_of_titles(read, head.weight)
    longer = _with_rows(table, vectors)
    if head is not None and rows is not None:
        head.weight = _with_rows(head.weight, rows)
        head.out_features = len(head.weight)
    model.item_embeddings.weight, model.item_embeddings.num_embeddings = longer, len(longer)
    model.config.grown_from = [*model.config.grown_from, model.config.vocab_size]
    model.config.vocab_size = len(longer)
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


def _checked_titles(titles: Iterable[str], n_items: int) -> list[str]:
    if isinstance(titles, str):
        raise ValueError(f"titles must be a list of titles; this is one title: {titles!r}")
    listed = list(titles)
    if len(listed) != n_items:
        raise ValueError(
            f"There are {len(listed)} titles for {n_items} new item(s): one each, in the order of raw_ids."
        )
    for place, title in enumerate(listed):
        problem = problem_of_title(title)
        if problem or not title.strip():
            raise ValueError(
                f"titles, number {place + 1}: {title!r:.60} {problem or 'is blank'}. An item without a title needs "
                "vectors."
            )
    return listed


def _trained_items(model: E4SRecModel | SASRecModel) -> list[int]:
    """Tokens of items that are not retired and were trained: not of those that were added later."""
    config = model.config
    end = config.grown_from[0] if config.grown_from else config.vocab_size
    retired = set(config.retired_items)
    return [item for item in range(FIRST_ITEM_ID, end) if item not in retired]


@torch.no_grad()
def _fit_to_trained_rows(model: E4SRecModel | SASRecModel, head: Tensor, vectors: Tensor) -> tuple[Tensor, HeadFit]:
    """Rows of the head for new vectors. Rows that were fitted themselves would say how well a fit fits itself."""
    trained = _trained_items(model)
    if not trained:
        raise ValueError("The head has no trained row of an item that is not retired: there is nothing to fit.")
    rows, fit = fit_rows(model.item_embeddings.weight[trained], head[trained], vectors)
    if not rows.isfinite().all():
        raise ValueError(
            "The rows of the head or the item vectors hold NaN or infinity: nothing can be fitted to them."
        )
    if fit.n_items < model.config.item_embedding_dim + 2:
        logger.warning(
            f"The rows of the head are fitted to {fit.n_items} items with vectors of {model.config.item_embedding_dim} "
            "dimensions: any rows would fit, and nothing tells how good those of the new items are."
        )
    return rows, fit


def _with_rows(weight: Tensor, rows: Tensor) -> nn.Parameter:
    """A longer copy, in memory of its own."""
    longer = torch.cat([weight.detach(), rows.to(weight.device, weight.dtype)])
    return nn.Parameter(longer, requires_grad=weight.requires_grad)
