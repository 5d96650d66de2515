"""The item tokenizer: the catalogue as a vocabulary that `AutoTokenizer` loads."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn, cast

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..modeling.histories import FIRST_ITEM_ID
from .item_ids import as_ids

PAD_TOKEN, UNK_TOKEN = "[PAD]", "[UNK]"


def build_item_tokenizer(item_ids: Iterable[str], *, max_history: int | None = None) -> PreTrainedTokenizerFast:
    """Make the tokenizer of a catalogue: ``[PAD]`` is 0, ``[UNK]`` is 1, items start at 2 in the given order.

    It is an ordinary fast tokenizer: after ``save_pretrained``, `AutoTokenizer.from_pretrained` loads it without custom
    code. One raw id is one token; an id may contain blanks and any other characters.

    Args:
        item_ids: The raw ids, without duplicates.
        max_history: If given, ``truncation=True`` keeps this many of the last items.

    Returns:
        A tokenizer that pads and truncates on the left.

    Raises:
        ValueError: If there are no ids, or an id is duplicate, empty, blank, not a string, or a special token, or
            has control characters. The message names the first of them.
    """
    items = list(item_ids)
    _check_raw_ids(items)
    vocabulary = {token: index for index, token in enumerate([PAD_TOKEN, UNK_TOKEN, *items])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token=UNK_TOKEN)),
        pad_token=PAD_TOKEN,
        unk_token=UNK_TOKEN,
        padding_side="left",
        truncation_side="left",
        split_special_tokens=True,  # an id that contains "[PAD]" is still one item
        model_input_names=["input_ids", "attention_mask"],
        **({} if max_history is None else {"model_max_length": max_history}),
    )


def extend_item_tokenizer(tokenizer: PreTrainedTokenizerBase, item_ids: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make an item tokenizer with new items after the old ones, as [`build_item_tokenizer`] does from all of them.

    Args:
        tokenizer: The item tokenizer; it is not changed.
        item_ids: The new raw ids, without duplicates.

    Raises:
        ValueError: If an id is already in the catalogue, or as [`build_item_tokenizer`].
    """
    old, new = item_catalogue(tokenizer), list(item_ids)
    _check_raw_ids(new)
    existing = set(old)
    if known := [item for item in new if item in existing]:
        refuse_ids("are in the catalogue already", known)
    return build_item_tokenizer([*old, *new], max_history=tokenizer.model_max_length)


def refuse_ids(what: str, offenders: Sequence[Any]) -> NoReturn:
    """Raise a `ValueError` that names the first of the invalid ids."""
    first = ", ".join(repr(item) for item in offenders[:5]) + (", …" if len(offenders) > 5 else "")
    raise ValueError(f"{len(offenders)} item id(s) {what}: {first}")


def _check_raw_ids(items: Sequence[str]) -> None:
    if not items:
        raise ValueError("The catalogue is empty: give at least one item id.")
    if others := [item for item in items if not isinstance(item, str)]:
        refuse_ids("are not strings (convert them with str())", others)
    if blanks := [item for item in items if not item.strip()]:
        refuse_ids("are empty or blank", blanks)
    as_ids(items)  # no control characters
    if specials := [item for item in items if item in (PAD_TOKEN, UNK_TOKEN)]:
        refuse_ids("are special tokens", specials)
    if duplicates := [item for item, count in Counter(items).items() if count > 1]:
        refuse_ids("occur more than once", duplicates)


def tokenize_histories(
    tokenizer: PreTrainedTokenizerBase,
    histories: Sequence[Sequence[str]],
    *,
    on_unknown: str = "unk",
) -> BatchEncoding:
    """Tokenize a batch of histories, left-padded.

    Args:
        tokenizer: The item tokenizer.
        histories: Raw ids in time order, one list per user; lists may be empty.
        on_unknown: ``"unk"`` turns unknown ids into ``[UNK]``, which the models ignore; ``"error"`` raises an error.

    Returns:
        ``input_ids`` and ``attention_mask``, tensors of shape ``(batch, seq)``. The mask is 0 on ``[UNK]`` as well.

    Raises:
        ValueError: If an id is unknown and ``on_unknown="error"`` (the message names the first ones and their rows), or
            if ``histories`` is empty or a single history.
    """
    if on_unknown not in ("unk", "error"):
        raise ValueError(f'on_unknown must be "unk" or "error", not {on_unknown!r}')
    if any(isinstance(history, str) for history in histories):
        raise ValueError("histories must be a list of lists of ids, one per user; got a single list of ids.")
    if not len(histories):
        raise ValueError("histories is empty: give at least one list of ids; the list itself may be empty.")
    rows = [item_token_ids(tokenizer, history) for history in histories]
    if on_unknown == "error":
        unknown = [
            (row, item)
            for row, history in enumerate(histories)
            for item, token in zip(history, rows[row], strict=True)
            if token == tokenizer.unk_token_id
        ]
        if unknown:
            first = ", ".join(f"{item!r} (history {row})" for row, item in unknown[:5])
            raise ValueError(f"{len(unknown)} item id(s) are not in the catalogue: {first}")
    ids = pad_sequence(
        [torch.tensor(row, dtype=torch.long) for row in rows],
        batch_first=True,
        padding_value=tokenizer.pad_token_id,
        padding_side="left",
    )
    return BatchEncoding({"input_ids": ids, "attention_mask": (ids >= FIRST_ITEM_ID).long()})


def item_token_ids(tokenizer: PreTrainedTokenizerBase, items: Sequence[str]) -> list[int]:
    """The token id of each raw id; ``[UNK]`` for ids that are not in the catalogue and for names of special tokens."""
    ids = cast(list[int], tokenizer.convert_tokens_to_ids(list(items))) if len(items) else []
    unknown = tokenizer.unk_token_id
    return [token if token > unknown else unknown for token in ids]


def item_catalogue(tokenizer: PreTrainedTokenizerBase, *, retired_items: Collection[int] = ()) -> list[str]:
    """The raw ids of the catalogue in the order of their tokens, without the ``retired_items`` of a config."""
    retired = set(retired_items)
    tokens = [token for token in range(FIRST_ITEM_ID, len(tokenizer)) if token not in retired]
    return cast(list[str], tokenizer.convert_ids_to_tokens(tokens))


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Check that an item tokenizer belongs to a model.

    Raises:
        ValueError: If it does not have one token per row of the model's item table.
    """
    if len(tokenizer) != vocab_size:
        raise ValueError(
            f"The item tokenizer has {len(tokenizer)} tokens, [PAD], [UNK] and {len(tokenizer) - FIRST_ITEM_ID} items, "
            f"but the model has an item table of {vocab_size} rows: they do not belong together."
        )
