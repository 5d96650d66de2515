"""Check that the weights have exactly the tensors that the config requires."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ...evaluation.fingerprint import file_fingerprint
from ...files import CONFIG_NAME, EVALUATION_NAME
from ...modeling import E4SRecConfig, E4SRecModel, SASRecConfig, SASRecModel
from ...modeling.saving import WEIGHTS_NAME, check_saved, compare_shapes
from .base_weights import bounded_modules
from .configs import dtype_of
from .findings import Finding, failed, note, unchecked
from .headers import DTYPES, WIDTHS, Header, Stored, tensors_without_numbers
from .sources import Source, UnreadableError

ROUNDED = "Loading would round them, and scores would change."
LORA_NAME = re.compile(r"base\.(.+)\.lora_(A|B)\.default\.weight")
WHY = "Loading is strict: it requires exactly the tensors of the config."


def check_weights(
    header: Header, config: PreTrainedConfig, content: Any, base: PreTrainedModel | None
) -> Iterator[Finding]:
    """Compare the header of ``model.safetensors`` with the config.

    Args:
        header: The header.
        config: The config of the model.
        content: The same as it was parsed.
        base: The base on the meta device, which is changed; ``None`` if unknown, or in the weights.
    """
    stored = header.tensors
    if header.metadata != {"format": "pt"}:
        yield failed(WEIGHTS_NAME, f"has the metadata {header.metadata}", "A release writes {'format': 'pt'}.")
    if isinstance(config, E4SRecConfig) and config.tuning == "lora" and base is None:
        yield from compare_without_base(stored, config)
        return
    try:
        expected = expected_tensors(config, base)
    except Exception as error:  # whatever a model raises that cannot be built
        yield failed("config.json", f"the model cannot be built from it and its base: {error}", "Loading fails too.")
        return
    yield from compare(stored, expected)
    if base is None:
        yield from check_widths(WEIGHTS_NAME, stored, content)


def check_widths(where: str, stored: Mapping[str, Stored], config: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the dtype in a config is not a narrower one than all that is stored, which loading would round."""
    widths = {WIDTHS[tensor.dtype] for tensor in stored.values() if tensor.dtype in WIDTHS}
    if widths and WIDTHS.get(DTYPES.get(str(dtype_of(config)), ""), 0) < min(widths):
        yield failed(where, f"has wider numbers than {dtype_of(config)}, the dtype in the config", ROUNDED)


def check_values(source: Source, paths: Iterable[str]) -> Iterator[Finding]:
    """Check that complete safetensors files hold numbers, neither NaN nor infinity."""
    for path in paths:
        try:
            for name in tensors_without_numbers(source.local(path)):
                yield failed(path, f"{name} has NaN or infinity", "Every score would become NaN.")
        except (OSError, UnreadableError) as error:
            yield unchecked(path, "its values could not be read", str(error))


def check_same_save(source: Source, content: Any) -> Iterator[Finding]:
    """Check that config and weights are of one save: the config has a digest of its weights."""
    try:
        check_saved(source.local(WEIGHTS_NAME), content.get("weights_digest"))
    except ValueError as error:
        yield failed("config.json", "is of another save than the weights", str(error))
    except (OSError, UnreadableError) as error:
        yield unchecked("config.json", "could not be compared with the weights", str(error))


def check_figures(source: Source, evaluation: Any) -> Iterator[Finding]:
    """Check that the figures beside the weights are theirs; they have a fingerprint of them."""
    if not isinstance(evaluation, dict):
        return
    try:
        fingerprint = file_fingerprint(source.local(WEIGHTS_NAME), source.local(CONFIG_NAME))
    except (OSError, UnreadableError) as error:
        yield unchecked(EVALUATION_NAME, "could not be compared with the weights", str(error))
        return
    if evaluation.get("fingerprint") != fingerprint:
        why = "What its scores depend on has changed: evaluate the model again, or remove the file."
        yield failed(EVALUATION_NAME, "has figures of another model", why)


def expected_tensors(config: PreTrainedConfig, base: PreTrainedModel | None) -> dict[str, Tensor]:
    """The tensors that a file must have, without values: the model is built on the meta device.

    Args:
        config: The config of the model.
        base: The base on the meta device; ``None`` for SASRec and ``tuning="full"``.

    Raises:
        Exception: Any error while building the model.
    """
    model: E4SRecModel | SASRecModel
    with torch.device("meta"), bounded_modules():
        if isinstance(config, SASRecConfig):
            model = SASRecModel(config)
        elif isinstance(config, E4SRecConfig):
            config.lora["init_lora_weights"] = False  # initial values do not matter here and may be slow to compute
            model = E4SRecModel(config, base)
    tensors = model.state_dict()
    return {name: tensors[name] for name in model.saved_keys()}


def compare(stored: Mapping[str, Stored], expected: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Compare names, shapes and dtypes."""
    yield from _compare_shapes(stored, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    for name in sorted(stored.keys() & expected.keys()):
        yield from _check_dtype(name, stored[name].dtype, expected[name].dtype)


def _compare_shapes(stored: Mapping[str, Stored], expected: Mapping[str, tuple[int | None, ...]]) -> Iterator[Finding]:
    for problem in compare_shapes({name: tensor.shape for name, tensor in stored.items()}, expected):
        yield failed(WEIGHTS_NAME, problem, WHY)


def _check_dtype(name: str, found: str, dtype: torch.dtype) -> Iterator[Finding]:
    """Check the dtype of a tensor: loading converts between floating-point dtypes."""
    allowed = {"F32", "BF16", "F16"} if dtype.is_floating_point else {DTYPES.get(str(dtype).removeprefix("torch."))}
    if found not in allowed:
        expected = sorted(map(str, allowed))
        yield failed(WEIGHTS_NAME, f"{name} has the dtype {found}", f"A release writes one of {expected}.")


def compare_without_base(stored: Mapping[str, Stored], config: E4SRecConfig) -> Iterator[Finding]:
    """Compare the tensors of an adapter whose base is unknown.

    The hidden size is taken from the input projection; LoRA tensors are checked by name and rank.
    """
    projection = stored.get("input_proj.weight", Stored((), "")).shape
    hidden = projection[0] if len(projection) == 2 else None
    vocab, width = config.vocab_size, config.item_embedding_dim
    heads: dict[str, tuple[int | None, ...]] = {
        "item_embeddings.weight": (vocab, width),
        "input_proj.weight": (hidden, width),
        "input_proj.bias": (hidden,),
        "score.weight": (vocab if config.head == "linear" else width, hidden),
    }
    lora = _expected_lora(stored.keys() - heads.keys(), config)
    unknown_shapes = _extra_lora_names(stored.keys() - heads.keys() - lora.keys(), config)
    known = {name: tensor for name, tensor in stored.items() if name not in unknown_shapes}
    yield from _compare_shapes(known, heads | lora)
    for name, tensor in known.items():
        yield from _check_dtype(name, tensor.dtype, torch.float32)
    if not lora and not unknown_shapes:
        yield failed(WEIGHTS_NAME, "has no LoRA weights", 'A model with tuning="lora" must have them.')
    yield note(WEIGHTS_NAME, "the LoRA tensors were checked only by name and rank", "The base was not read.")


def _expected_lora(names: Iterable[str], config: E4SRecConfig) -> dict[str, tuple[int | None, ...]]:
    """Both LoRA matrices of each target module that has one of them, with the shapes that are known."""
    rank = None if config.lora.get("rank_pattern") else config.lora["r"]
    shapes: dict[str, tuple[int | None, ...]] = {}
    for name in sorted(names):
        match = LORA_NAME.fullmatch(name)
        if match is not None and _is_target(match[1], config.lora["target_modules"]):
            shapes[f"base.{match[1]}.lora_A.default.weight"] = (rank, None)
            shapes[f"base.{match[1]}.lora_B.default.weight"] = (None, rank)
    return shapes


def _extra_lora_names(names: Iterable[str], config: E4SRecConfig) -> set[str]:
    """Names of the tensors that some LoRA options add and whose shapes depend on the base."""
    if not any(config.lora.get(option) for option in ("lora_bias", "use_dora", "target_parameters")):
        return set()
    return {
        name for name in names if name.startswith("base.") and ".lora_" in name and LORA_NAME.fullmatch(name) is None
    }


def _is_target(module: str, targets: Any) -> bool:
    """Whether LoRA may target a module; a string (a pattern or ``all-linear``) matches any module."""
    return isinstance(targets, str) or any(f".{module}".endswith(f".{target}") for target in targets)
