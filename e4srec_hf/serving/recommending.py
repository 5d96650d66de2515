"""Recommendations for one history of raw ids, from a saved model."""

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..data import tokenize_histories
from ..data.saved_models import load_saved_model, load_saved_tokenizer
from ..data.titles import LONGEST_TITLE
from ..hub.pull import item_titles
from ..hub.verify.findings import printable
from ..modeling.histories import FIRST_ITEM_ID


class Recommended(NamedTuple):
    """One recommended item.

    Attributes:
        item: Raw id.
        score: The model's; only its order means something.
        title: Empty if the model has none.
    """

    item: str
    score: float
    title: str


def recommend_items(
    source: str | os.PathLike[str],
    history: Sequence[str],
    *,
    top_k: int | None = None,
    exclude_seen: bool = True,
    on_unknown: str = "error",
    base_model: str | os.PathLike[str] | None = None,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
    **hub_arguments: Any,
) -> list[Recommended]:
    """Load a model with the installed code and recommend what comes after a history, the best first.

    Args:
        source: Folder or Hub id of the model.
        history: Raw item ids, the oldest first.
        top_k: How many; by default 10, or the whole catalogue where it is smaller.
        exclude_seen: Whether items of the history are left out.
        on_unknown: ``"error"`` refuses ids that are not in the catalogue, ``"unk"`` ignores them.
        base_model: Another base than the recorded one.
        load_in_4bit: Quantize the base to 4 bits.
        load_in_8bit: Quantize the base to 8 bits.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Returns:
        At most ``top_k`` items; fewer where no more are left.

    Raises:
        OSError: If the model or its base cannot be found.
        TypeError: If the history is anything else than a list of strings.
        ValueError: If there is no model of this package, an id is not known, or ``top_k`` is larger than the catalogue.
    """
    if (
        isinstance(history, str)
        or not isinstance(history, Sequence)
        or not all(isinstance(item, str) for item in history)
    ):
        raise TypeError(f"history must be a list of raw item ids, each a string, the oldest first; not {history!r:.80}")
    tokenizer = load_saved_tokenizer(source, **hub_arguments)
    batch = tokenize_histories(tokenizer, [list(history)], on_unknown=on_unknown)
    base = {"base_model": base_model, "load_in_4bit": load_in_4bit, "load_in_8bit": load_in_8bit}
    model = load_saved_model(source, tokenizer, **base, **hub_arguments)  # type: ignore[arg-type]
    best = model.recommend(
        **batch.to(model.get_input_embeddings().weight.device),
        top_k=min(10, len(tokenizer) - FIRST_ITEM_ID) if top_k is None else top_k,
        exclude_seen=exclude_seen,
    )
    titles = item_titles(source, **hub_arguments)
    items = tokenizer.convert_ids_to_tokens(best.item_ids[0].tolist())
    return [
        Recommended(item, score, titles.get(item, ""))
        for item, score in zip(items, best.scores[0].tolist(), strict=True)
        if score != -math.inf
    ]


def as_lines(recommended: Sequence[Recommended]) -> str:
    """A line an item: its place, score, raw id and title, with nothing in them that a terminal would obey."""
    return "\n".join(
        printable(f"{place:3}. {score:8.3f}  {item}  {str(title)[:LONGEST_TITLE]}".rstrip())
        for place, (item, score, title) in enumerate(recommended, start=1)
    )
