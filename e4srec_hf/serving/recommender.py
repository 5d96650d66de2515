"""A model that is ready to recommend for raw item ids: every way to serve one stands on it."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..data.item_tokenizer import check_vocabulary, item_token_ids, refuse_ids, tokenize_histories
from ..data.saved_models import load_saved_model, load_saved_tokenizer
from ..data.titles import problem_of_title
from ..hub.pull import item_titles
from ..modeling.histories import FIRST_ITEM_ID, UNK_ID
from ..modeling.ranking import Recommendations, best_items, score_chunks


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


class RankedItems(NamedTuple):
    """What is recommended after one history.

    Attributes:
        items: The best first; fewer than were asked for where no more are left.
        fallback: Whether the history has no known item. The items are then what the prompt alone gives; a model without
            a prompt has none to give.
        unknown_items: How many ids of the history are not in the catalogue; they were ignored.
    """

    items: list[Recommended]
    fallback: bool
    unknown_items: int


class Recommender:
    """A model with its item tokenizer and the titles of its items. It reads its instruction once in its life.

    Several threads may use one object. The weights of the model must not change meanwhile.

    Args:
        model: An E4SRec or SASRec model; it is put into evaluation mode.
        tokenizer: Its item tokenizer.
        titles: Raw id to title, of the items that have one.

    Raises:
        ValueError: If the tokenizer does not fit the model.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, titles: Mapping[str, str] | None = None) -> None:
        check_vocabulary(tokenizer, model.config.vocab_size)
        self.model, self.tokenizer, self.titles = model.eval(), tokenizer, dict(titles or {})
        self.instruction: Any = model.kept_instruction()
        self._names: dict[int, tuple[str, str]] = {}  # raw id and title of a token, as far as they were asked for

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        base_model: str | os.PathLike[str] | None = None,
        load_in_4bit: bool = False,
        load_in_8bit: bool = False,
        device: str | None = None,
        **hub_arguments: Any,
    ) -> "Recommender":
        """Load a saved model with the installed code.

        Args:
            source: Folder or Hub id of the model.
            base_model: Another base than the recorded one.
            load_in_4bit: Quantize the base to 4 bits.
            load_in_8bit: Quantize the base to 8 bits.
            device: Where to; by default the GPU if there is one.
            hub_arguments: ``revision``, ``token``, …, for a Hub id.

        Raises:
            OSError: If the model or its base cannot be found.
            ValueError: If there is no model of this package.
        """
        tokenizer = load_saved_tokenizer(source, **hub_arguments)
        model = load_saved_model(
            source,
            tokenizer,
            base_model=base_model,
            load_in_4bit=load_in_4bit,
            load_in_8bit=load_in_8bit,
            device=device,
            **hub_arguments,
        )
        return cls(model, tokenizer, item_titles(source, **hub_arguments))

    @property
    def has_prompt(self) -> bool:
        """Whether the model recommends something after a history without any known item."""
        return bool(self.model.scores_first_item)

    def tokens(self, items: Iterable[str], *, on_unknown: str = "error") -> list[int]:
        """The tokens of raw ids that are in the catalogue.

        Args:
            items: Raw ids.
            on_unknown: ``"error"`` refuses other ids, ``"unk"`` leaves them out.

        Raises:
            TypeError: If an item is no string, or ``items`` is a single one.
            ValueError: If an id is not in the catalogue; the message names the first of them. Or if ``on_unknown`` is
                no choice.
        """
        items = checked_items(items)
        tokens = item_token_ids(self.tokenizer, items)
        if checked_on_unknown(on_unknown) == "error" and UNK_ID in tokens:
            unknown = [item for item, token in zip(items, tokens, strict=True) if token == UNK_ID]
            refuse_ids("are not in the catalogue", unknown)
        return [token for token in tokens if token != UNK_ID]

    @torch.no_grad()
    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        *,
        top_k: int | None = None,
        exclude_seen: bool = True,
        candidates: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        exclude_each: Sequence[Sequence[str]] | None = None,
        on_unknown: str = "error",
        batch_size: int = 256,
    ) -> list[RankedItems]:
        """Recommend what comes after each of some histories.

        Args:
            histories: Lists of raw item ids, the oldest first; a list may be empty.
            top_k: How many items for each; by default 10, or the whole catalogue where it is smaller.
            exclude_seen: Whether items of a history are left out after it.
            candidates: Raw ids to choose from, for all histories; by default the whole catalogue.
            exclude: Raw ids that are recommended to nobody.
            exclude_each: For each history, raw ids that are not recommended after it.
            on_unknown: ``"error"`` refuses ids that are not in the catalogue, ``"unk"`` ignores them.
            batch_size: Histories that are read at a time, sorted by length.

        Returns:
            One for each history, in their order.

        Raises:
            TypeError: If ``candidates`` or ``exclude`` is anything else than a list of strings.
            ValueError: If an id is not known, or ``top_k`` or ``batch_size`` cannot be.
        """
        top_k = self.checked_top_k(top_k)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if exclude_each is not None and len(exclude_each) != len(histories):
            raise ValueError(f"exclude_each has {len(exclude_each)} lists for {len(histories)} histories.")
        if not histories:
            return []
        ids = self._batch(histories, on_unknown)  # (histories, longest)
        hidden = None if exclude_each is None else self._batch(exclude_each, on_unknown)
        never = self.never_recommended(candidates, exclude, on_unknown=on_unknown)
        n_known = (ids >= FIRST_ITEM_ID).sum(dim=1)
        rows = n_known.argsort(descending=True, stable=True)
        rows = rows if self.has_prompt else rows[n_known[rows] > 0]
        found: list[list[Recommended]] = [[] for _ in histories]
        with self.instruction:
            for some in rows.split(batch_size):
                items, n_items = self.model.known_histories(ids[some], None)
                unwanted = [*([items] if exclude_seen else []), *([] if hidden is None else [hidden[some]])]
                seen = torch.cat(unwanted, dim=1) if unwanted else None
                ranked = self.rank(self.model.history_vectors(items, n_items), top_k, seen=seen, never=never)
                for row, best in zip(some.tolist(), ranked, strict=True):
                    found[row] = best
        n_unknown = (ids == UNK_ID).sum(dim=1).tolist()
        fallback = (n_known == 0).tolist()
        return list(map(RankedItems, found, fallback, n_unknown))

    def _batch(self, histories: Sequence[Sequence[str]], on_unknown: str) -> Tensor:
        ids = tokenize_histories(self.tokenizer, histories, on_unknown=on_unknown)["input_ids"]
        return ids.to(self.model.get_input_embeddings().weight.device)

    def checked_top_k(self, top_k: int | None) -> int:
        """How many items to recommend: by default 10, or the whole catalogue where it is smaller.

        Raises:
            ValueError: If the catalogue has fewer, or it is not positive.
        """
        size = len(self.tokenizer) - FIRST_ITEM_ID
        top_k = min(10, size) if top_k is None else top_k
        if not 1 <= top_k <= size:
            raise ValueError(f"top_k must be between 1 and the {size} items of the catalogue, not {top_k}")
        return top_k

    def never_recommended(
        self, candidates: Iterable[str] | None, exclude: Iterable[str] = (), *, on_unknown: str = "error"
    ) -> Tensor | None:
        """``(any,)`` tokens that nobody gets: retired, excluded, or no candidates.

        Raises:
            TypeError: As [`tokens`].
            ValueError: As [`tokens`].
        """
        excluded = self.tokens(exclude, on_unknown=on_unknown)
        retired = self.model.retired
        if candidates is None and not excluded:
            return retired
        never = torch.full((self.model.config.vocab_size,), candidates is not None)
        if candidates is not None:
            never[self.tokens(candidates, on_unknown=on_unknown)] = False
        never[excluded] = True
        if retired is not None:
            never[retired.cpu()] = True
        return never.nonzero()[:, 0].to(self.model.scoring_vectors.device)

    @torch.no_grad()
    def rank(
        self, vectors: Tensor, top_k: int, *, seen: Tensor | None = None, never: Tensor | None = None
    ) -> list[list[Recommended]]:
        """The best items after histories whose ``(histories, width)`` vectors are known, with raw ids and titles.

        Args:
            vectors: As ``model.history_vectors`` makes them.
            top_k: How many items for each.
            seen: ``(histories, any)`` tokens that are left out after each.
            never: ``(any,)`` tokens that are left out everywhere, see [`never_recommended`].

        Raises:
            ValueError: If a score is NaN.
        """
        return self.named(best_items(score_chunks(vectors, self.model.scoring_parts), top_k, seen=seen, retired=never))

    def named(self, best: Recommendations) -> list[list[Recommended]]:
        """The ``(rows, top_k)`` best items with raw ids and titles."""
        scores, ids = best.scores.tolist(), best.item_ids.tolist()
        for token in {token for row in ids for token in row} - self._names.keys():
            self._names[token] = self._name(token)
        return [
            [
                Recommended(self._names[token][0], score, self._names[token][1])
                for score, token in zip(*row, strict=True)
                if score != -math.inf
            ]
            for row in zip(scores, ids, strict=True)
        ]

    def _name(self, token: int) -> tuple[str, str]:
        item = str(self.tokenizer.convert_ids_to_tokens(token))
        title = self.titles.get(item, "")
        return item, "" if problem_of_title(title) else title


def checked_on_unknown(on_unknown: str) -> str:
    """What to do with unknown ids; a `ValueError` if it is no choice."""
    if on_unknown not in ("unk", "error"):
        raise ValueError(f'on_unknown must be "unk" or "error", not {on_unknown!r}')
    return on_unknown


def checked_items(items: Iterable[str]) -> list[str]:
    """Raw ids as a list; a `TypeError` if they are none, or a single one."""
    listed = items if isinstance(items, str) else list(items)
    if isinstance(listed, str) or not all(isinstance(item, str) for item in listed):
        raise TypeError(f"Items must be a list of raw item ids, each a string; not {listed!r:.80}")
    return listed
