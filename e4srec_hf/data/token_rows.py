"""Rows of item tokens, of lists in memory or of a column on disk: each raw id is looked up once."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import BatchEncoding, PreTrainedTokenizerBase

from ..modeling.histories import FIRST_ITEM_ID, PAD_ID, UNK_ID

#: Rows of a column that are in memory as text at a time.
ROWS_AT_A_TIME = 10_000


class _Vocabulary(dict[str, int]):
    """Raw id to token, as far as ids were asked for. Ids that are not in the catalogue are ``[UNK]``, and not kept."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._token_to_id: Callable[[str], int | None] = tokenizer.backend_tokenizer.token_to_id

    def __missing__(self, item: str) -> int:
        token = self._token_to_id(item)
        if token is None or token < FIRST_ITEM_ID:
            return UNK_ID
        self[item] = token
        return token


_vocabularies: WeakKeyDictionary[PreTrainedTokenizerBase, _Vocabulary] = WeakKeyDictionary()


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Raw id to token of an item tokenizer; ``[UNK]`` for any other text. A `TypeError` for what is no text."""
    if (known := _vocabularies.get(tokenizer)) is None:
        known = _vocabularies[tokenizer] = _Vocabulary(tokenizer)
    return known


class TokenRows(NamedTuple):
    """The tokens of rows of items, one row after the other."""

    tokens: NDArray[np.int64]  # (all,)
    bounds: NDArray[np.int64]  # (rows + 1,) where each row begins, and where the last one ends

    @classmethod
    def of_lists(cls, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[str]]) -> "TokenRows":
        """Tokenize lists of raw ids."""
        tokens = map(vocabulary_of(tokenizer).__getitem__, chain.from_iterable(rows))
        return cls(np.fromiter(tokens, np.int64), np.cumsum([0, *map(len, rows)]))

    @classmethod
    def of_column(cls, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, name: str) -> "TokenRows":
        """Tokenize a column of lists of raw ids. Of many equal ids, one becomes a Python object."""
        known, tokens, lengths = vocabulary_of(tokenizer), [], [np.zeros(1, np.int64)]
        for table in dataset.select_columns(name).with_format("arrow").iter(ROWS_AT_A_TIME):
            lists = table[name].combine_chunks()
            ids = pc.list_flatten(lists).dictionary_encode(null_encoding="encode")  # a missing id is a TypeError
            of_distinct = np.fromiter(map(known.__getitem__, ids.dictionary.to_pylist()), np.int64)
            tokens.append(of_distinct[ids.indices.to_numpy()])
            lengths.append(pc.list_value_length(lists).to_numpy())
        return cls(np.concatenate(tokens), np.concatenate(lengths).cumsum(dtype=np.int64))

    def lengths(self, rows: Any = slice(None)) -> NDArray[np.int64]:
        """Number of tokens in each of some rows."""
        return self.bounds[1:][rows] - self.bounds[:-1][rows]

    def batch(self, rows: Any = slice(None)) -> BatchEncoding:
        """``input_ids`` and ``attention_mask`` of some rows, ``(batch, longest)``, left-padded."""
        lengths = self.lengths(rows)[:, None]
        from_end = np.arange(lengths.max(initial=0), 0, -1)
        ids = self.tokens.take(self.bounds[1:][rows][:, None] - from_end, mode="clip")  # (batch, longest)
        ids[from_end > lengths] = PAD_ID
        input_ids = torch.from_numpy(ids)
        return BatchEncoding({"input_ids": input_ids, "attention_mask": (input_ids >= FIRST_ITEM_ID).long()})

    def refuse_unknown(self, item_at: Callable[[int, int], str]) -> None:
        """Raise a `ValueError` that names the first ids that are not in the catalogue.

        Args:
            item_at: Takes a row and a place in it to the raw id.
        """
        unknown = np.flatnonzero(self.tokens == UNK_ID).tolist()
        if not unknown:
            return
        rows = [int(np.searchsorted(self.bounds, place, side="right")) - 1 for place in unknown[:5]]
        items = [item_at(row, place - int(self.bounds[row])) for row, place in zip(rows, unknown, strict=False)]
        first = ", ".join(f"{item!r} (history {row})" for item, row in zip(items, rows, strict=True))
        raise ValueError(f"{len(unknown)} item id(s) are not in the catalogue: {first}")
