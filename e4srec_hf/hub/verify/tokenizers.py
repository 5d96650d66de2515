"""Check that the item tokenizer is a plain list of the catalogue that `AutoTokenizer` loads without custom code."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...data.item_tokenizer import PAD_TOKEN, UNK_TOKEN
from .findings import Finding, failed, note

SETTINGS, VOCABULARY = "tokenizer_config.json", "tokenizer.json"
#: Settings that `save_pretrained` writes; others can name classes, templates or other files.
KNOWN_SETTINGS = {
    *("backend", "tokenizer_class", "model_input_names", "model_max_length", "pad_token", "unk_token"),
    *("padding_side", "truncation_side", "split_special_tokens", "clean_up_tokenization_spaces"),
    *("is_local", "local_files_only"),
}
CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
SPECIALS = {PAD_TOKEN: 0, UNK_TOKEN: 1}
OTHER_ITEMS = "Histories would be read as different items than in training."


def check_tokenizer(documents: Mapping[str, Any], vocab_size: int | None) -> Iterator[Finding]:
    """Check the two files of the item tokenizer.

    Args:
        documents: The parsed JSON files of the repo.
        vocab_size: Rows of the model's item table; ``None`` if unknown.
    """
    if VOCABULARY not in documents and SETTINGS not in documents:
        yield note(VOCABULARY, "there is no item tokenizer", "The model loads, but it cannot read raw item ids.")
        return
    yield from _check_settings(documents.get(SETTINGS))
    try:
        yield from _check_vocabulary(documents.get(VOCABULARY), vocab_size)
    except (AttributeError, KeyError, TypeError) as error:
        yield failed(VOCABULARY, f"is not a tokenizer: {error!r}", OTHER_ITEMS)


def _check_settings(settings: Any) -> Iterator[Finding]:
    if not isinstance(settings, dict):
        yield failed(SETTINGS, "is missing or not a dictionary", "AutoTokenizer would guess a class instead.")
        return
    if (found := settings.get("tokenizer_class")) not in CLASSES:
        yield failed(SETTINGS, f"names the class {found!r}", f"Expected {CLASSES[0]}, without custom code.")
    if (found := settings.get("backend", "tokenizers")) != "tokenizers":
        yield failed(SETTINGS, f"names the backend {found!r}", "An item tokenizer uses the tokenizers library.")
    for name in sorted(settings.keys() - KNOWN_SETTINGS - {"auto_map"}):  # auto_map is reported for every JSON file
        yield failed(
            SETTINGS,
            f"has a setting {name!r} that no item tokenizer has",
            "Such settings can name code, templates or other files.",
        )
    for name, token in (("pad_token", PAD_TOKEN), ("unk_token", UNK_TOKEN)):
        if settings.get(name) != token:
            yield failed(SETTINGS, f"{name} is {settings.get(name)!r}, not {token!r}", OTHER_ITEMS)


def _check_vocabulary(tokenizer: Any, vocab_size: int | None) -> Iterator[Finding]:
    model = tokenizer["model"]
    if (model["type"], model["unk_token"]) != ("WordLevel", UNK_TOKEN):
        yield failed(VOCABULARY, f"is a {model['type']} tokenizer, not a list of items (WordLevel)", OTHER_ITEMS)
        return
    vocabulary = model["vocab"]
    if vocab_size is not None and len(vocabulary) != vocab_size:
        yield failed(VOCABULARY, f"has {len(vocabulary)} tokens, but the model has {vocab_size}", OTHER_ITEMS)
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        yield failed(VOCABULARY, "its token ids are not 0, 1, 2, …", OTHER_ITEMS)
    for token, number in SPECIALS.items():
        if vocabulary.get(token) != number:
            yield failed(VOCABULARY, f"{token} is {vocabulary.get(token)}, not {number}", OTHER_ITEMS)
    if unknown := [token for token in tokenizer["added_tokens"] if SPECIALS.get(token["content"]) != token["id"]]:
        yield failed(VOCABULARY, f"adds the tokens {unknown[:3]}", OTHER_ITEMS)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        if tokenizer.get(part) is not None:
            yield failed(VOCABULARY, f"has a {part}", "It would change item ids.")
    if (tokenizer.get("post_processor") or {}).get("special_tokens"):
        yield failed(VOCABULARY, "adds tokens to the items", OTHER_ITEMS)
