"""Check the weights of a base inside the repo: its index, its files, and that no tensor is missing or surplus."""

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from ...modeling.saving import WEIGHTS_NAME, compare_shapes
from .documents import INDEX_NAME
from .findings import Finding, failed, note, unchecked
from .headers import DTYPES, WIDTHS, Stored, read_header
from .limits import MOST_MODULES, MOST_SHARDS
from .sources import Source, UnreadableError

SHARD = re.compile(r"[\w.-]+\.safetensors")
INCOMPLETE = "Loading would leave tensors of the base at random values, or would ignore some."


@contextmanager
def bounded_modules() -> Iterator[None]:
    """Stop with a `ValueError` where more modules are put into models than any real model has."""
    left = MOST_MODULES

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"it has more than {MOST_MODULES} parts")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def build_base(config: Mapping[str, Any], kind: Any = AutoModel) -> PreTrainedModel:
    """A base without values, on the meta device, from its parsed ``config.json``.

    Raises:
        Exception: Any error while building it.
    """
    with torch.device("meta"), bounded_modules():
        built = AutoConfig.for_model(**copy.deepcopy(dict(config)))
        return kind.from_config(built, trust_remote_code=False, attn_implementation="eager")


def check_base_weights(
    source: Source, folder: str, documents: Mapping[str, Any], base: PreTrainedModel
) -> Iterator[Finding]:
    """Check the files of a base in a folder of the repo, and compare their tensors with those of the base.

    Args:
        source: The repo.
        folder: The folder of the base.
        documents: The parsed JSON files of the repo.
        base: The base on the meta device, without LoRA.
    """
    shards, findings = _files(source, folder, documents)
    yield from findings
    if findings:
        return
    stored: dict[str, Stored] = {}
    for path, names in shards.items():
        try:
            header = read_header(source, path)
        except UnreadableError as error:
            yield unchecked(path, "could not be read", str(error))
            return
        except ValueError as error:
            yield failed(path, f"is not a complete safetensors file: {error}", "It is truncated or another kind.")
            return
        if header.metadata.get("format", "pt") != "pt" or len(header.metadata) > 1:
            yield failed(path, f"has the metadata {header.metadata}", "transformers writes {'format': 'pt'}.")
        if names is not None and (odd := sorted(names ^ header.tensors.keys())):
            yield failed(path, f"and the index do not name the same tensors: {odd[:5]}", INCOMPLETE)
        stored |= header.tensors
    yield from _compare(f"{folder}/{WEIGHTS_NAME}", stored, documents[f"{folder}/config.json"], base)


def _files(
    source: Source, folder: str, documents: Mapping[str, Any]
) -> tuple[dict[str, set[str] | None], list[Finding]]:
    """The files of the weights, each with the tensors that the index says are in it; ``None`` without an index."""
    single, index = f"{folder}/{WEIGHTS_NAME}", f"{folder}/{INDEX_NAME}"
    present = {path for path in source.files if path.startswith(f"{folder}/") and path.endswith(".safetensors")}
    if index not in source.files:
        if single not in present:
            return {}, [failed(single, "is missing", "config.json says that the base is here.")]
        surplus = present - {single}
        return {single: None}, [failed(path, "is in no index", INCOMPLETE) for path in sorted(surplus)]
    content = documents.get(index)
    content = content if isinstance(content, dict) else {}
    shards = content.get("weight_map")
    if not isinstance(shards, dict) or not shards or content.keys() != {"metadata", "weight_map"}:
        return {}, [failed(index, "is not an index of weights", "It has metadata, and maps names of tensors to files.")]
    if not isinstance(content["metadata"], dict):
        return {}, [failed(index, "is not an index: its metadata is no object", "Loading adds to it.")]
    if odd := [file for file in shards.values() if not isinstance(file, str) or not SHARD.fullmatch(file)]:
        return {}, [failed(index, f"names the file {odd[0]!r}", "Loading would read it, also outside the folder.")]
    files: dict[str, set[str] | None] = {}
    for name, file in shards.items():
        files.setdefault(f"{folder}/{file}", set()).add(name)  # type: ignore[union-attr]
    if len(files) > MOST_SHARDS:
        return {}, [failed(index, f"names {len(files)} files", f"No base has more than {MOST_SHARDS}.")]
    findings = [failed(path, "is missing; the index names it", INCOMPLETE) for path in sorted(files.keys() - present)]
    findings += [failed(path, "is not in the index", INCOMPLETE) for path in sorted(present - files.keys())]
    return files, findings


def _compare(
    where: str, stored: Mapping[str, Stored], config: Mapping[str, Any], base: PreTrainedModel
) -> Iterator[Finding]:
    prefix = f"{base.base_model_prefix}."
    found = {name.removeprefix(prefix): tensor for name, tensor in stored.items()}
    if twice := sorted(name for name in found if {name, prefix + name} <= stored.keys()):
        yield failed(
            where, f"has these with {prefix!r} and without it: {twice[:5]}", "Only one of the two would be loaded."
        )
    if config.get("quantization_config") is not None:
        method = config["quantization_config"]
        method = method.get("quant_method") if isinstance(method, dict) else None
        if method != "bitsandbytes":
            yield unchecked(where, f"is quantized by {method!r}", "Its tensors cannot be compared with its config.")
            return
        yield from _compare_quantized(where, found, {name: tuple(t.shape) for name, t in base.state_dict().items()})
        return
    for name in sorted(found):
        if found[name].dtype not in WIDTHS:
            yield failed(where, f"{name} has the dtype {found[name].dtype}", f"Expected one of {sorted(WIDTHS)}.")
    if get_checkpoint_conversion_mapping(base.config.model_type) is not None:
        yield note(where, "its tensors were not compared with its config", "transformers renames and joins them.")
        return
    expected = {name: tuple(tensor.shape) for name, tensor in base.state_dict().items()}
    ignored = [re.compile(pattern) for pattern in base._keys_to_ignore_on_load_unexpected or ()]
    surplus = {name for name in found if name not in expected and not any(each.search(name) for each in ignored)}
    if surplus:
        head = _of_the_language_model(config, prefix)
        expected |= {name: head[name] for name in surplus & head.keys()}
    known = {name: tensor.shape for name, tensor in found.items() if name in expected or name in surplus}
    for problem in compare_shapes(known, expected):
        yield failed(where, problem, INCOMPLETE)
    dtype = DTYPES.get(str(base.dtype).removeprefix("torch."))
    if dtype not in {tensor.dtype for tensor in found.values()}:
        yield failed(where, f"has no tensor of the dtype {base.dtype}", "Its config gives this dtype.")


def _of_the_language_model(config: Mapping[str, Any], prefix: str) -> dict[str, tuple[int, ...]]:
    """The tensors that the base has as a language model, with its head."""
    try:
        tensors = build_base(config, AutoModelForCausalLM).state_dict()
    except ValueError:  # there is no such model
        return {}
    return {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in tensors.items()}


def _compare_quantized(
    where: str, found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]]
) -> Iterator[Finding]:
    """Quantized weights are packed, and have scales beside them; the names and the other shapes are known."""
    parents = {name.rpartition(".")[0] for name in expected}
    packed = {name for name in expected if name in found and found[name].dtype not in WIDTHS}
    if not packed:
        yield failed(where, "has no packed weights", "Its config says that it is quantized; loading would misread it.")
    for name in sorted(packed):
        scales = {f"{name}.absmax", f"{name.rpartition('.')[0]}.SCB"}  # of 4 bits and of 8 bits
        if found[name].dtype not in ("U8", "I8") or scales.isdisjoint(found):
            yield failed(where, f"{name} has the dtype {found[name].dtype} and no scales", "It is no packed weight.")
    for name in sorted(expected.keys() - found.keys()):
        yield failed(where, f"missing: {name}", INCOMPLETE)
    for name, tensor in sorted(found.items()):
        if name in expected and tensor.dtype in WIDTHS and tensor.shape != expected[name]:
            yield failed(where, f"misshapen: {name} is {tensor.shape}, not {expected[name]}", INCOMPLETE)
        elif name not in expected and not any(name.startswith(f"{parent}.") for parent in parents if parent):
            yield failed(where, f"surplus: {name}", INCOMPLETE)
