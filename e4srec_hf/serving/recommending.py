"""Recommendations for one history of raw ids, from a saved model."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from ..data import tokenize_histories
from ..data.saved_models import load_saved_tokenizer
from ..data.titles import LONGEST_TITLE
from ..hub.verify.findings import printable
from .recommender import Recommended, Recommender


def recommend_items(
    source: str | os.PathLike[str],
    history: Sequence[str],
    *,
    top_k: int | None = None,
    exclude_seen: bool = True,
    candidates: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    on_unknown: str = "error",
    base_model: str | os.PathLike[str] | None = None,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
    **hub_arguments: Any,
) -> list[Recommended]:
    """Load a model with the installed code and recommend what comes after one history, the best first.

    For more than one, load a [`Recommender`][e4srec_hf.serving.recommender.Recommender].

    Args:
        source: Folder or Hub id of the model.
        history: Raw item ids, the oldest first.
        top_k: How many; by default 10, or the whole catalogue where it is smaller.
        exclude_seen: Whether items of the history are left out.
        candidates: Raw ids to choose from; by default the whole catalogue.
        exclude: Raw ids that are left out too.
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
        ValueError: If there is no model of this package, an id is not known, ``top_k`` is larger than the catalogue, or
            there is neither a known item nor a prompt.
    """
    if (
        isinstance(history, str)
        or not isinstance(history, Sequence)
        or not all(isinstance(item, str) for item in history)
    ):
        raise TypeError(f"history must be a list of raw item ids, each a string, the oldest first; not {history!r:.80}")
    tokenizer = load_saved_tokenizer(source, **hub_arguments)
    tokenize_histories(tokenizer, [list(history)], on_unknown=on_unknown)  # a mistake is told before a base is loaded
    recommender = Recommender.load(
        source, base_model=base_model, load_in_4bit=load_in_4bit, load_in_8bit=load_in_8bit, **hub_arguments
    )
    (ranked,) = recommender.recommend(
        [list(history)],
        top_k=top_k,
        exclude_seen=exclude_seen,
        candidates=candidates,
        exclude=exclude,
        on_unknown=on_unknown,
    )
    if ranked.fallback and not recommender.has_prompt:
        raise ValueError("The history has no known item, and the model has no prompt: there is nothing to read.")
    return ranked.items


def as_lines(recommended: Sequence[Recommended]) -> str:
    """A line an item: its place, score, raw id and title, with nothing in them that a terminal would obey."""
    return "\n".join(
        printable(f"{place:3}. {score:8.3f}  {item}  {str(title)[:LONGEST_TITLE]}".rstrip())
        for place, (item, score, title) in enumerate(recommended, start=1)
    )
