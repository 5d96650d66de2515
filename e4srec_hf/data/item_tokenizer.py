"""The item tokenizer: the catalogue as a vocabulary that `AutoTokenizer` loads."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn, cast

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..modeling.histories import FIRST_ITEM_ID, PAD_ID, UNK_ID
from .item_ids import as_ids
from .token_rows import TokenRows, vocabulary_of

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
    check_raw_ids(items)
    tokens = [PAD_TOKEN, UNK_TOKEN, *items]
    # a tokenizer copies what it is made of: it is made of the special tokens alone, and then gets its items
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(_word_level(tokens[:FIRST_ITEM_ID])),
        pad_token=PAD_TOKEN,
        unk_token=UNK_TOKEN,
        padding_side="left",
        truncation_side="left",
        split_special_tokens=True,  # an id that contains "[PAD]" is still one item
        model_input_names=["input_ids", "attention_mask"],
        **({} if max_history is None else {"model_max_length": max_history}),
    )
    tokenizer.backend_tokenizer.model = _word_level(tokens)
    return tokenizer


def _word_level(tokens: Sequence[str]) -> WordLevel:
    return WordLevel(dict(zip(tokens, range(len(tokens)), strict=True)), unk_token=UNK_TOKEN)


def load_item_tokenizer(source: str | os.PathLike[str], **hub_arguments: Any) -> PreTrainedTokenizerBase:
    """Load an item tokenizer as `AutoTokenizer` does, but parse its file once instead of twice.

    Args:
        source: Folder or Hub id.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Raises:
        OSError: If it cannot be found.
    """
    # without them, transformers reads the whole file for its special tokens, before it reads the file
    specials = {PAD_ID: AddedToken(PAD_TOKEN, special=True), UNK_ID: AddedToken(UNK_TOKEN, special=True)}
    return AutoTokenizer.from_pretrained(
        source, trust_remote_code=False, added_tokens_decoder=specials, **hub_arguments
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
    check_raw_ids(new)
    existing = set(old)
    if known := [item for item in new if item in existing]:
        refuse_ids("are in the catalogue already", known)
    return build_item_tokenizer([*old, *new], max_history=tokenizer.model_max_length)


def refuse_ids(what: str, offenders: Sequence[Any]) -> NoReturn:
    """Raise a `ValueError` that names the first of the invalid ids."""
    first = ", ".join(repr(item) for item in offenders[:5]) + (", …" if len(offenders) > 5 else "")
    raise ValueError(f"{len(offenders)} item id(s) {what}: {first}")


def check_raw_ids(items: Sequence[str]) -> None:
    """Refuse what can be no catalogue.

    Raises:
        ValueError: As [`build_item_tokenizer`] does.
    """
    if not items:
        raise ValueError("The catalogue is empty: give at least one item id.")
    if others := [item for item in items if not isinstance(item, str)]:
        refuse_ids("are not strings (convert them with str())", others)
    if not all(map(str.strip, items)):
        refuse_ids("are empty or blank", [item for item in items if not item.strip()])
    as_ids(items)  # no control characters
    distinct = set(items)
    if specials := [token for token in (PAD_TOKEN, UNK_TOKEN) if token in distinct]:
        refuse_ids("are special tokens", specials)
    if len(distinct) < len(items):
        refuse_ids("occur more than once", [item for item, count in Counter(items).items() if count > 1])


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
    histories = list(histories)
    if any(isinstance(history, str) for history in histories):
        raise ValueError("histories must be a list of lists of ids, one per user; got a single list of ids.")
    if not histories:
        raise ValueError("histories is empty: give at least one list of ids; the list itself may be empty.")
    rows = TokenRows.of_lists(tokenizer, histories)
    if on_unknown == "error":
        rows.refuse_unknown(lambda row, place: histories[row][place])
    return rows.batch()


def item_token_ids(tokenizer: PreTrainedTokenizerBase, items: Iterable[str]) -> list[int]:
    """The token id of each raw id; ``[UNK]`` for ids that are not in the catalogue and for names of special tokens."""
    return list(map(vocabulary_of(tokenizer).__getitem__, items))


def item_catalogue(tokenizer: PreTrainedTokenizerBase, *, retired_items: Collection[int] = ()) -> list[str]:
    """The raw ids of the catalogue in the order of their tokens, without the ``retired_items`` of a config."""
    retired = set(retired_items)
    tokens = [token for token in range(FIRST_ITEM_ID, len(tokenizer)) if token not in retired]
    return list(map(cast(Any, tokenizer).backend_tokenizer.id_to_token, tokens))


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
