"""Check the tokenizer of a base inside the repo, which makes the tokens of a prompt."""

from collections.abc import Iterator, Mapping
from typing import Any

from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from ...modeling.saving import TOKENIZER_FILES
from .findings import Finding, failed
from .limits import LARGEST_NUMBER


def check_base_tokenizer(folder: str, documents: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the settings of the tokenizer.

    Args:
        folder: The folder of the base.
        documents: The parsed JSON files of the repo.
    """
    where, config = f"{folder}/{TOKENIZER_FILES[1]}", documents["config.json"]
    if where not in documents:
        return
    settings = documents[where]
    if not isinstance(settings, dict):
        yield failed(where, "is not a dictionary", "No tokenizer can be built from it.")
        return
    name = settings.get("tokenizer_class")
    if name is not None and (not isinstance(name, str) or tokenizer_class_from_name(name) is None):
        yield failed(where, f"tokenizer_class is {name!r}, which is not in transformers", "It cannot be loaded.")
    longest = settings.get("model_max_length", VERY_LARGE_INTEGER)
    prompt = [config.get(name) for name in ("instruction_ids", "response_ids")]
    least = max([2, *(len(ids) for ids in prompt if isinstance(ids, list))])
    if longest != VERY_LARGE_INTEGER and not (type(longest) is int and least <= longest <= LARGEST_NUMBER):
        yield failed(where, f"model_max_length is {longest!r}", f"The prompt needs {least} tokens.")
