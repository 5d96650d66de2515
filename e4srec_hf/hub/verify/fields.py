"""The fields of a config: their types, and values that a model can be built with and used."""

import inspect
from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ...files import config_class
from ...modeling.bases import HARMLESS_STARTS
from ...modeling.configuration_e4srec import PAPER_LORA, PLAIN_NAME
from ...modeling.histories import FIRST_ITEM_ID
from .findings import Finding, failed
from .limits import LONGEST_PROMPT, MOST_PARTS

UNUSABLE = "No model can be built or used with it."

Check = Callable[[Any], bool]


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> Check:
    return lambda value: type(value) in (int, float) and least <= value <= most


def _one_of(*values: Any) -> Check:
    return lambda value: any(value is each or (type(value) is type(each) and value == each) for each in values)


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and PLAIN_NAME.fullmatch(value) is not None


def _names(value: Any) -> bool:
    return _is_name(value) or (isinstance(value, list) and all(map(_is_name, value)))


def _by_name(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(_is_name, value)) and all(map(check, value.values()))


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


_LAYER, _TOKEN = _whole(0, 2**16), _whole(0, 2**31)
_RANK, _ALPHA = _whole(1, 2**16), _number(1e-6, 1e6)
#: Fields of the two configs, beyond their types and what their classes refuse.
OWN: dict[str, Check] = {
    "vocab_size": _whole(FIRST_ITEM_ID + 1, 2**31),
    "item_embedding_dim": _whole(1, 2**16),
    "hidden_size": _whole(1, 2**16),
    "num_hidden_layers": _whole(1, 256),
    "num_attention_heads": _whole(1, 2**10),
    "max_history": _whole(1, 2**20),
    "base_layers": _optional(_whole(1, MOST_PARTS)),
    "num_negatives": _whole(1, 2**31),
    "dropout": _number(0, 0.999),
    "initializer_range": _number(0, 10),
    **dict.fromkeys(
        ("instruction_ids", "response_ids"), lambda value: len(value) <= LONGEST_PROMPT and _list_of(_TOKEN)(value)
    ),
}
#: Fields that `transformers` writes for any model and that refer to no file, repo or code.
GENERAL: dict[str, Check] = {
    **dict.fromkeys(("architectures", "auto_map", "dtype", "model_type", "torch_dtype"), lambda value: True),
    **dict.fromkeys(("transformers_version", "weights_digest"), lambda value: isinstance(value, str)),
    "format_version": _whole(1, 2**31),  # the class names a newer one
    "pad_token_id": _one_of(0),
    **dict.fromkeys(("bos_token_id", "eos_token_id"), _optional(_TOKEN)),
    **dict.fromkeys(("use_cache", "tie_word_embeddings"), _one_of(True, False)),
    "return_dict": _one_of(True),
    **dict.fromkeys(("output_hidden_states", "output_attentions", "is_encoder_decoder"), _one_of(False)),
    "chunk_size_feed_forward": _one_of(0),
    **dict.fromkeys(("id2label", "label2id"), lambda value: isinstance(value, dict)),
    "problem_type": _one_of(None),
}
#: Fields of `peft.LoraConfig` that are plain settings. Others read files (``corda_config``), import modules
#: (``megatron_core``) or change the base.
LORA: dict[str, Check] = {
    "r": _RANK,
    "lora_alpha": _ALPHA,
    "lora_dropout": _number(0, 0.999),
    "target_modules": lambda value: value == "all-linear" or _optional(_names)(value),
    **dict.fromkeys(("exclude_modules", "layers_pattern", "modules_to_save"), _optional(_names)),
    "target_parameters": _optional(_names),
    "layers_to_transform": lambda value: value is None or _LAYER(value) or _list_of(_LAYER)(value),
    "rank_pattern": _optional(_by_name(_RANK)),
    "alpha_pattern": _optional(_by_name(_ALPHA)),
    "bias": _one_of("none"),
    **dict.fromkeys(
        ("lora_bias", "use_rslora", "use_dora", "fan_in_fan_out", "inference_mode"), _optional(_one_of(True, False))
    ),
    "init_lora_weights": _one_of(*HARMLESS_STARTS),
    "task_type": _optional(_is_name),
}


def own_fields(model_type: str) -> dict[str, Any]:
    """The fields that the config class of a model defines, and their types."""
    constructor = config_class(model_type).__init__
    hints = get_type_hints(constructor)
    return {name: hints[name] for name in inspect.signature(constructor).parameters if name not in ("self", "kwargs")}


def check_fields(content: dict[str, Any]) -> Iterator[Finding]:
    """Check that each field is there and has a value that it can have."""
    own = own_fields(content["model_type"])
    for name in sorted(own.keys() - content.keys()):
        yield failed("config.json", f"lacks the field {name!r}", "A release writes each; its default may be another.")
    for name in sorted(content.keys() - own.keys() - GENERAL.keys()):
        yield failed(
            "config.json",
            f"has a field {name!r} that no release writes",
            "Such fields can refer to other files, repos or code.",
        )
    for name in sorted(content.keys() & (own.keys() | GENERAL.keys())):
        value = content[name]
        check = OWN.get(name) or GENERAL.get(name)
        if not ((name not in own or _has_type(value, own[name])) and (check is None or check(value))):
            yield failed("config.json", f"{name} is {value!r}: no model can be built from it", UNUSABLE)
    for text in ("instruction", "response"):
        if bool(content.get(text)) and not content.get(f"{text}_ids"):
            yield failed("config.json", f"has no tokens of its {text}", "The prompt would be left out.")


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value of JSON has the type of a field; a whole number is a float too, a truth value is no number."""
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return any(_has_type(value, each) for each in get_args(hint))
    if kind is list:
        return isinstance(value, list) and all(_has_type(each, get_args(hint)[0]) for each in value)
    if kind is float:
        return type(value) in (int, float)
    return value is None if kind is NoneType else type(value) is kind


def check_lora(lora: Any) -> Iterator[Finding]:
    """Check the settings of LoRA."""
    if not isinstance(lora, dict):
        yield failed("config.json", f"lora has {lora!r} in the place of its settings", UNUSABLE)
        return
    for name in sorted(PAPER_LORA.keys() - lora.keys()):
        yield failed("config.json", f"lora lacks {name}", "A release writes it; its default may be another.")
    for name in sorted(lora.keys() - LORA.keys()):
        yield failed(
            "config.json", f"lora has {name!r}", "Such fields can read files, import modules or change the base."
        )
    for name in sorted(lora.keys() & LORA.keys()):
        if not LORA[name](lora[name]):
            yield failed("config.json", f"lora has {name}={lora[name]!r}", _why_lora(name))


def _why_lora(name: str) -> str:
    if name in ("bias", "init_lora_weights"):
        return "It changes weights of the base, which would affect other adapters on that base."
    if "module" in name or "pattern" in name or "parameters" in name:
        return "Give plain names of modules: a regular expression may search for ever."
    return UNUSABLE
