"""Check that the item tokenizer is what `build_item_tokenizer` writes for its catalogue, in every part."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ...data.item_tokenizer import PAD_TOKEN, UNK_TOKEN, build_item_tokenizer, check_raw_ids
from ...files import read_json
from ...modeling.saving import TOKENIZER_FILES
from .findings import Finding, failed

VOCABULARY, SETTINGS = TOKENIZER_FILES
#: Names of the one class, in older and newer releases of `transformers`.
CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
#: Settings that a tokenizer has once it was loaded and saved again; they say how that was done.
HOW_IT_WAS_LOADED = ("is_local", "local_files_only", "clean_up_tokenization_spaces")
OTHER_ITEMS = "Histories would be read as different items than in training."


@cache
def _written() -> tuple[dict[str, Any], dict[str, Any]]:
    """The two files of an item tokenizer with one item."""
    with tempfile.TemporaryDirectory() as folder:
        build_item_tokenizer(["item"]).save_pretrained(folder)
        vocabulary, settings = (read_json(Path(folder, name)) for name in TOKENIZER_FILES)
        return vocabulary, settings


def check_tokenizer(documents: Mapping[str, Any], vocab_size: int | None) -> Iterator[Finding]:
    """Check the two files of the item tokenizer.

    Args:
        documents: The parsed JSON files of the repo.
        vocab_size: Rows of the model's item table; ``None`` if unknown.
    """
    for name in TOKENIZER_FILES:
        if not isinstance(documents.get(name), dict):
            yield failed(name, "is missing or not a dictionary", "Without it no raw item id can be read.")
        elif name == SETTINGS:
            yield from _check_settings(documents[name])
        else:
            yield from _check_vocabulary(documents[name], vocab_size)


def _check_settings(settings: dict[str, Any]) -> Iterator[Finding]:
    _, written = _written()
    if (found := settings.get("tokenizer_class")) not in CLASSES:
        yield failed(SETTINGS, f"names the class {found!r}", f"Expected {CLASSES[0]}, without custom code.")
    # auto_map is reported for every JSON file
    for name in sorted(settings.keys() - written.keys() - {*HOW_IT_WAS_LOADED, "auto_map"}):
        yield failed(
            SETTINGS,
            f"has a setting {name!r} that no item tokenizer has",
            "Such settings can name code, templates or other files.",
        )
    for name in HOW_IT_WAS_LOADED:
        if not isinstance(settings.get(name, False), bool):
            yield failed(SETTINGS, f"{name} is {settings[name]!r}, not true or false", "No release writes that.")
    longest = settings.get("model_max_length", 1)
    if type(longest) is not int or longest < 1:
        yield failed(SETTINGS, f"model_max_length is {longest!r}", "It is the number of items that are kept.")
    for name in sorted(written.keys() - {"tokenizer_class", "model_max_length"}):
        if not same(settings.get(name), written[name]):
            yield failed(SETTINGS, f"{name} is {settings.get(name)!r}, not {written[name]!r}", OTHER_ITEMS)


def _check_vocabulary(tokenizer: dict[str, Any], vocab_size: int | None) -> Iterator[Finding]:
    written, _ = _written()
    model = tokenizer.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        yield failed(VOCABULARY, "is not a tokenizer with a vocabulary", OTHER_ITEMS)
        return
    without_effect = {"post_processor"} if tokenizer.get("post_processor") is None else set()
    for part in sorted((tokenizer.keys() | written.keys()) - {"model"} - without_effect):
        if not same(tokenizer.get(part), written.get(part)):
            yield failed(VOCABULARY, f"its {part} is {tokenizer.get(part)!r}, not {written.get(part)!r}", OTHER_ITEMS)
    for part in sorted((model.keys() | written["model"].keys()) - {"vocab"}):
        if not same(model.get(part), written["model"].get(part)):
            what = f"the {part} of its model is {model.get(part)!r}, not {written['model'].get(part)!r}"
            yield failed(VOCABULARY, what, OTHER_ITEMS)
    yield from _check_items(model["vocab"], vocab_size)


def _check_items(vocabulary: dict[str, Any], vocab_size: int | None) -> Iterator[Finding]:
    if vocab_size is not None and len(vocabulary) != vocab_size:
        yield failed(VOCABULARY, f"has {len(vocabulary)} tokens, but the model has {vocab_size}", OTHER_ITEMS)
    if not all(type(number) is int for number in vocabulary.values()) or sorted(vocabulary.values()) != list(
        range(len(vocabulary))
    ):
        yield failed(VOCABULARY, "its token ids are not 0, 1, 2, …", OTHER_ITEMS)
    for number, token in enumerate((PAD_TOKEN, UNK_TOKEN)):
        if (found := vocabulary.get(token)) != number:
            yield failed(VOCABULARY, f"{token} is {found}, not {number}", OTHER_ITEMS)
    try:
        check_raw_ids([token for token in vocabulary if token not in (PAD_TOKEN, UNK_TOKEN)])
    except ValueError as error:
        yield failed(VOCABULARY, f"has items that no catalogue has: {error}", "No release writes such a file.")


def same(found: Any, expected: Any) -> bool:
    """Whether two parsed JSON values are the same, numbers and truth values told apart."""
    return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
