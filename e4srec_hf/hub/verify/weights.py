"""Check that the weights are one complete safetensors file with exactly the tensors that the config requires."""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from ...modeling import E4SRecConfig, E4SRecModel, SASRecConfig, SASRecModel
from ...modeling.saving import WEIGHTS_NAME, compare_shapes
from .findings import Finding, failed, note, unchecked
from .sources import Source, UnreadableError

#: In bytes; a language model with a thousand layers has a smaller header.
LARGEST_HEADER = 10 * 1024**2
#: Names of dtypes in safetensors files.
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64", "int32": "I32", "bool": "BOOL"}
LORA_NAME = re.compile(r"base\.(.+)\.lora_(A|B)\.default\.weight")
WHY = "Loading is strict: it requires exactly the tensors of the config."


class Stored(NamedTuple):
    """A tensor as described in the header of its file."""

    shape: tuple[int, ...]
    dtype: str


def read_header(source: Source) -> tuple[dict[str, Stored], dict[str, str]]:
    """Read the tensors and the metadata of ``model.safetensors`` with the library that also loads them.

    The weights themselves are not fetched: the library reads a sparse file of the same length with only the header.

    Raises:
        ValueError: If the file is not a complete safetensors file, or its header is too large.
        UnreadableError: If it could not be read.
    """
    size = source.files[WEIGHTS_NAME]
    length = int.from_bytes(source.start(WEIGHTS_NAME, 8), "little")
    if length > size - 8:
        raise ValueError(f"it has {size} bytes, too few for its header of {length}")
    if length > LARGEST_HEADER:
        raise ValueError(f"its header has {length} bytes; no model needs more than {LARGEST_HEADER}")
    header = source.start(WEIGHTS_NAME, 8 + length)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, WEIGHTS_NAME)
        try:
            with file.open("wb") as out:
                out.write(header)
                out.truncate(size)
            with safe_open(file, framework="pt") as stored:
                parts = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118
                tensors = {name: Stored(tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
                return tensors, stored.metadata() or {}
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        except OSError as error:  # the disk may not allow a sparse file of this length
            raise UnreadableError(str(error)) from error


def check_weights(
    source: Source, config: PreTrainedConfig | None, base_config: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """Compare ``model.safetensors`` with the config.

    Args:
        source: The repo.
        config: Its config; ``None`` if it failed its checks.
        base_config: The parsed ``config.json`` of the base; ``None`` if unknown.
    """
    if WEIGHTS_NAME not in source.files:
        return  # check_files reports it
    try:
        stored, metadata = read_header(source)
    except UnreadableError as error:
        yield unchecked(WEIGHTS_NAME, "could not be read", str(error))
        return
    except ValueError as error:
        yield failed(WEIGHTS_NAME, f"is not a complete safetensors file: {error}", "It is truncated or another kind.")
        return
    if metadata != {"format": "pt"}:
        yield failed(WEIGHTS_NAME, f"has the metadata {metadata}", "A release writes {'format': 'pt'}.")
    if config is None:
        yield note(WEIGHTS_NAME, "its tensors were not compared with the config", "The config failed its checks.")
        return
    if isinstance(config, E4SRecConfig) and config.tuning == "lora" and base_config is None:
        yield from compare_without_base(stored, config)
        return
    try:
        expected = expected_tensors(config, base_config)
    except Exception as error:
        say = failed if base_config is None else unchecked  # it may be a base that this transformers cannot build
        yield say("config.json", f"the model cannot be built from it and its base: {error}", "Loading fails too.")
        return
    yield from compare(stored, expected)


def expected_tensors(config: PreTrainedConfig, base_config: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """The tensors that a file must have, without values: the model is built on the meta device.

    Args:
        config: The config of the model.
        base_config: The parsed ``config.json`` of the base; ``None`` for SASRec and ``tuning="full"``.

    Raises:
        Exception: Any error while building the model.
    """
    model: E4SRecModel | SASRecModel
    with torch.device("meta"):
        if isinstance(config, SASRecConfig):
            model = SASRecModel(config)
        elif isinstance(config, E4SRecConfig):
            base = None
            if base_config is not None:
                base = AutoModel.from_config(
                    AutoConfig.for_model(**base_config), trust_remote_code=False, attn_implementation="eager"
                )
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
