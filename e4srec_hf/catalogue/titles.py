"""Item vectors and rows of the head for new items, from their titles alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils import logging

from ..data.texts import standard_scores, text_vectors
from ..files import TITLES_NAME, read_json
from ..modeling import E4SRecModel, SASRecModel
from ..modeling.item_config import check_finite
from .head_fit import HeadFit, fit_rows

#: From titles to a vector each, ``(titles, any width)``.
Encoder = Callable[[list[str]], Any]

#: Titles of the catalogue that are read at most, spread evenly over it: more of them hardly change a fit.
MOST_TITLES = 20_000
#: Ridge penalties to choose from.
PENALTIES = tuple(10.0 ** (power / 2) for power in range(-6, 9))

logger = logging.get_logger(__name__)


class ReadTitles(NamedTuple):
    """Titles as vectors, in which each column has mean 0 and variance 1 over the catalogue."""

    tokens: list[int]  # of the items of the catalogue that have a title
    vectors: Tensor  # (items of the catalogue, width) float64
    new: Tensor  # (new items, width)


def read_titles(
    model: E4SRecModel | SASRecModel,
    names: Mapping[int, str],
    titles: Sequence[str],
    catalogue_titles: Mapping[str, str],
    encode: Encoder | None,
) -> ReadTitles:
    """Read the titles of the catalogue and of new items.

    Args:
        model: The model.
        names: Token to raw id, for trained items.
        titles: Titles of the new items.
        catalogue_titles: Raw id to title.
        encode: What turns titles into vectors; by default `text_vectors` of the model's base.

    Raises:
        ValueError: If the catalogue has no titles or all the same, or there is nothing to read them with.
    """
    told = {token: catalogue_titles.get(name) for token, name in names.items()}
    known = {token: title for token, title in told.items() if isinstance(title, str) and title.strip()}
    if len(set(known.values())) < 2:
        raise ValueError(
            f"Of {len(names)} trained items {len(known)} have a title, and {len(set(known.values()))} title(s) differ: "
            f"there is nothing to learn from. Titles are in {TITLES_NAME} beside a model that was trained on data with "
            "titles; or pass catalogue_titles={raw id: title}."
        )
    tokens = list(known)[:: -(-len(known) // MOST_TITLES)]
    if encode is None:
        encode = _own_base(model)
    read = torch.as_tensor(encode([*(known[token] for token in tokens), *titles])).detach().double().cpu()
    if read.dim() != 2 or len(read) != len(tokens) + len(titles) or not read.shape[1]:
        raise ValueError(f"encode gave the shape {tuple(read.shape)} for {len(tokens) + len(titles)} titles.")
    check_finite(read, "encode's vectors")
    vectors, new = read.split([len(tokens), len(titles)])
    mean, spread = standard_scores(vectors)
    return ReadTitles(tokens, (vectors - mean) / spread, (new - mean) / spread)


def titles_beside(model: E4SRecModel | SASRecModel) -> dict[str, str]:
    """Raw id to title, where the model was saved or loaded; empty if there are none."""
    file = model.file_beside(TITLES_NAME)
    return {} if file is None else read_json(file)


def rows_of_titles(read: ReadTitles, table: Tensor) -> tuple[Tensor, HeadFit]:
    """Rows of a table for new items: a ridge regression from titles to trained rows, stretched to their length.

    A prediction is shorter than what it predicts, the more so the less titles tell. Such items would stand behind all
    others in every ranking. Where titles tell nothing, nothing is stretched: the rows are about the mean of the trained
    ones, which gives a middling score for every user.

    Args:
        read: The titles.
        table: ``(vocab, width)``: item vectors, or rows of the head.

    Returns:
        ``(new items, width)`` float32 on the CPU, and how well titles predict the rows before they are stretched.
    """
    trained = table.detach()[read.tokens]
    rows, fit = fit_rows(read.vectors, trained, read.new, PENALTIES)
    if not rows.isfinite().all():
        raise ValueError("The trained rows hold NaN or infinity: nothing can be fitted to them.")
    if not fit.r2_held_out > 0:
        logger.warning(
            "Titles do not predict the rows of this model's items: the new items get about the mean of them, and so a "
            "middling score for every user. Give their vectors, or titles that tell more."
        )
        return rows.float(), fit
    length = trained.double().norm(dim=1).mean().cpu()
    return (rows * length / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)).float(), fit


def _own_base(model: E4SRecModel | SASRecModel) -> Encoder:
    if not isinstance(model, E4SRecModel) or model.config.tuning == "full":
        raise ValueError(
            "This model has no frozen language model to read titles with: pass encode=, such as "
            'functools.partial(text_vectors, base_model="google/gemma-3-270m") of e4srec_hf.data.'
        )
    return lambda titles: text_vectors(titles, model)
