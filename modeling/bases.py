"""The base language model: finding it, checking that it fits, and making the right part of it trainable.

Several adapters can share one base in memory: each has modules of its own, with its LoRA, around the same weights.
"""

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.gguf import read_gguf_metadata
from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast
from transformers.utils import cached_file, logging
from transformers.utils.hub import extract_commit_hash

from .configuration_e4srec import PAPER_LORA, E4SRecConfig
from .saving import BASE_FILES

#: Arguments of `from_pretrained` that say how to reach the Hub, for the adapter and for the base.
SHARED_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "token")

#: Attributes of the layers and weights of bitsandbytes: scales, and the object that holds them after the first pass.
QUANTIZATION_STATE = ("quant_state", "state", "CB", "SCB")
#: Names of buffers that older files hold, and that models compute.
COMPUTED = re.compile(r"\b(inv_freq|masked_bias|attn\.bias|attention\.bias|causal_mask)$")
#: Ways in which LoRA starts that leave the weights of the base alone.
HARMLESS_STARTS = (True, False, "gaussian", "orthogonal")

logger = logging.get_logger(__name__)


def text_embeddings(base: PreTrainedModel) -> nn.Embedding:
    """The token embeddings of a base: their width is the hidden size that items are projected to."""
    return cast(nn.Embedding, base.get_input_embeddings())


def open_base(
    base_model: str | os.PathLike[str] | PreTrainedModel, revision: str | None = None, *, tuning: str, **kwargs: Any
) -> PreTrainedModel:
    """The body of a base model, without a language-modelling head. Its own code is never run, nothing is unpickled.

    ``base_model`` is a Hub id, folder, GGUF file, which is dequantized, or a loaded model: its weights are shared, or
    copied with ``tuning="full"``. ``kwargs`` are those of `AutoModel.from_pretrained`.
    """
    if isinstance(base_model, PreTrainedModel):
        twin = share_base(base_model)
        return twin if tuning == "lora" else copy.deepcopy(twin)
    name, is_gguf = str(base_model), os.path.isfile(base_model)
    kwargs = {"dtype": "auto", "use_safetensors": True, "ignore_mismatched_sizes": True, **kwargs}
    damage = Exception if is_gguf else (OSError, SafetensorError)  # a damaged GGUF file raises anything
    try:
        commit = hub_commit(name, revision=revision, **{k: v for k, v in kwargs.items() if k in SHARED_HUB_ARGUMENTS})
        if is_gguf:
            kwargs = {"quantization_config": GgufConfig(dequantize=True), "config": gguf_config(name), **kwargs}
        where = {**place_of_base(name), "revision": commit or revision, "trust_remote_code": False}
        base, found = AutoModel.from_pretrained(**where, output_loading_info=True, **kwargs)
    except damage as error:
        raise OSError(
            f"The base model {name!r} could not be loaded{' (is it a whole GGUF file?)' if is_gguf else ''}: {error}\n"
            "If it lies elsewhere, pass base_model=<folder, Hub id, GGUF file or loaded model> to from_pretrained."
        ) from error
    check_complete(base, name, found)
    base.config.name_or_path, base.config._commit_hash = name, commit
    return base


def place_of_base(name: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` that say where a base and its tokenizer are; a file is a GGUF file."""
    folder, file = os.path.split(os.path.abspath(name))
    place = {"pretrained_model_name_or_path": folder, "gguf_file": file}
    return place if os.path.isfile(name) else {"pretrained_model_name_or_path": name}


def gguf_config(name: str) -> Any:
    """The config of a base in a GGUF file; it is a `ValueError` if that asks for more than the file can hold."""
    metadata, tensors = read_gguf_metadata(name)
    if (n_layers := metadata.get(f"{metadata['general.architecture']}.block_count", 0)) > len(tensors):
        raise ValueError(f"{len(tensors)} tensors do not make {n_layers} layers")
    config = AutoConfig.from_pretrained(**place_of_base(name))
    with torch.device("meta"):
        n_weights = AutoModel.from_config(config).num_parameters()
    if n_weights > 8 * os.path.getsize(name):
        raise ValueError(f"it is too small for {n_weights} weights")
    return config


def text_tokenizer(name: str, revision: str | None, **hub: Any) -> PreTrainedTokenizerBase:
    """The text tokenizer beside a base, or in its GGUF file; its own code is never run."""
    kind: Any = PreTrainedTokenizerFast if os.path.isfile(name) else AutoTokenizer  # it reads a GGUF file twice
    return kind.from_pretrained(**place_of_base(name), revision=revision, trust_remote_code=False, **hub)


def check_complete(base: PreTrainedModel, name: str, found: Mapping[str, Any]) -> None:
    """Raise a `ValueError` if a base's files do not hold exactly the weights of its config; heads may be surplus."""
    parts, prefix = {part for part, _ in base.named_children()}, f"{base.base_model_prefix}."
    problems = [f"missing: {tensor}" for tensor in sorted(found["missing_keys"])]
    problems += [f"misshapen: {tensor[0]}" for tensor in sorted(found["mismatched_keys"])]
    for tensor in () if getattr(base, "is_quantized", False) else sorted(found["unexpected_keys"]):
        if tensor.removeprefix(prefix).partition(".")[0] in parts and not COMPUTED.search(tensor):
            problems.append(f"surplus: {tensor}")
    if problems:
        listed = "\n  ".join(problems[:8] + ["…"] * (len(problems) > 8))
        raise ValueError(f"The weights of the base model {name!r} do not fit its config.json:\n  {listed}")


def share_base(model: PreTrainedModel) -> PreTrainedModel:
    """A base in modules of its own that shares the weights of a language model, or of the base of an E4SRec model.

    It is a `ValueError` if they are not those of a base alone: an adapter is merged, or the base was trained whole.
    """
    donor: Any = model if model.config.model_type == "e4srec" else None
    if donor is not None and model.config.tuning == "full":
        raise ValueError('The base of an E4SRec model with tuning="full" was trained with it: no adapter fits on it.')
    if donor is not None and donor.unmerged_weights:
        raise ValueError("An adapter is merged into this base: e4srec_hf.serving.unmerge_adapter takes it out.")
    body = cast(PreTrainedModel, model.base_model if donor is None else donor.base)
    twin = copy.deepcopy(body, {id(value): value for value in _shared(body)})
    for parent in list(twin.modules()) if donor is not None else ():
        for name, child in parent.named_children():
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
    for module in twin.modules():  # what training put in for the other adapter
        vars(module).pop("base_dropout", None)
    vars(twin).pop("peft_config", None)
    return twin


def _shared(base: nn.Module) -> list[Any]:
    """What copies of a base have in common: its tensors, and what quantized layers keep beside their weights."""
    tensors = [*base.parameters(), *base.buffers()]
    kept = (getattr(holder, name, None) for holder in [*base.modules(), *tensors] for name in QUANTIZATION_STATE)
    return tensors + [state for state in kept if state is not None]


def hub_commit(name: str, **hub_arguments: Any) -> str | None:
    """The commit that a revision of a repo stands for, on the Hub or offline in the cache; ``None`` for a path."""
    if os.path.exists(name):
        return None
    return extract_commit_hash(cached_file(name, "config.json", **hub_arguments), None)


def base_of_adapter(
    config: E4SRecConfig,
    adapter: str | os.PathLike[str],
    base_model: str | os.PathLike[str] | PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    base_arguments: dict[str, Any],
    hub_arguments: dict[str, Any],
) -> PreTrainedModel:
    """The recorded base of an adapter, or ``base_model`` instead, with the prompt in its own tokens.

    ``config`` is changed to describe this base. The adapter's revision is used for a base in the adapter's repo only.
    """
    recorded, revision = config.base_model_name_or_path, config.base_model_revision
    adapter_revision = hub_arguments.pop("revision", None)
    other = base_model is not None
    found = base_model or recorded_base(config, adapter, revision=adapter_revision, **hub_arguments)
    base = open_base(found, None if other else revision, tuning="lora", **base_arguments, **hub_arguments)
    name, commit = origin(base)
    if other and tokenizer is None and name is not None and (name, commit) != (recorded, revision):
        try:
            tokenizer = text_tokenizer(name, commit, **hub_arguments)
        except (OSError, ValueError) as error:
            logger.warning(f"{name} has no tokenizer: the prompt keeps its ids, or pass tokenizer=. ({error})")
    if other and tokenizer is not None:
        tokenize_prompt(config, tokenizer)
    config.base_model_name_or_path = name
    config.base_model_revision = commit or (None if other else revision)
    return base


def origin(base: PreTrainedModel) -> tuple[str | None, str | None]:
    """Where a base is from: Hub id or full path, ``None`` if it was made in memory; and its commit on the Hub."""
    name = base.config.name_or_path or None
    return os.path.abspath(name) if name and os.path.exists(name) else name, getattr(base.config, "_commit_hash", None)


def single_device(device_map: Any) -> torch.device:
    """The device of a ``device_map`` that names only one; several are a `ValueError`."""
    if device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    places = set(device_map.values()) if isinstance(device_map, dict) else {device_map}
    if len(places) != 1:
        raise ValueError(f'A model with tuning="full" stays on one device, but device_map names {places}.')
    return torch.device(places.pop())


def recorded_base(config: E4SRecConfig, adapter: str | os.PathLike[str], **hub_arguments: Any) -> str:
    """Name of the base that an adapter was trained on; ``./…`` in its folder or repo becomes a full path."""
    name = config.base_model_name_or_path
    if name is None:
        raise ValueError(f"{adapter} does not say which base it needs: pass base_model=<folder, Hub id or model>.")
    if not name.startswith("./"):
        return name
    inside = Path(name)
    if ".." in inside.parts:
        raise ValueError(f"{adapter} says that its base is {name}, which leads out of it: do not trust it.")
    if not os.path.isdir(adapter):
        patterns = [f"{inside.as_posix()}/{kind}" for kind in BASE_FILES]
        adapter = snapshot_download(str(adapter), allow_patterns=patterns, **hub_arguments)
    if not Path(adapter, inside).exists():
        raise ValueError(f"{adapter} says that its base is inside it ({name}), where it is not: pass base_model=…")
    return os.path.abspath(Path(adapter, inside))


def tokenize_prompt(config: E4SRecConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tokenize both prompt texts, without special tokens, and record their token ids in ``config``."""
    config.instruction_ids, config.response_ids = (
        tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        for text in (config.instruction, config.response)
    )


def check_prompt(config: E4SRecConfig, base: PreTrainedModel) -> None:
    """Raise a `ValueError` if a token of the prompt has no row in ``base``."""
    rows = text_embeddings(base).num_embeddings
    if (highest := max([*config.instruction_ids, *config.response_ids], default=0)) >= rows:
        raise ValueError(f"The prompt has token {highest}, but the base has {rows} tokens: it is for another base.")


def default_target_modules(base: PreTrainedModel) -> list[str] | str:
    """The three MLP matrices of the paper where the base has them, all linear layers where it names them otherwise."""
    names = {name.rpartition(".")[2] for name, _ in base.named_modules()}
    paper: list[str] = PAPER_LORA["target_modules"]
    return list(paper) if names.issuperset(paper) else "all-linear"


def decoder_layers(base: PreTrainedModel) -> nn.ModuleList:
    """The stack of layers of a base; empty where no list is as long as its config says."""
    depth = base.config.get_text_config().num_hidden_layers
    modules = base.get_decoder().modules()  # type: ignore[operator]
    return next((m for m in modules if isinstance(m, nn.ModuleList) and len(m) == depth), nn.ModuleList())


def keep_layers(base: PreTrainedModel, first: int | None) -> None:
    """Keep only the ``first`` layers of a base, and say so in its config; ``None`` keeps all. It is changed in place.

    It is a `ValueError` if it has fewer, or the base that another model lends has only some and all are wanted.
    """
    if first is None:
        if (kept := getattr(base, "kept_layers", None)) is not None:
            raise ValueError(f"The base that was passed has only its first {kept} layers left, but all are to be read.")
        return
    config, layers = base.config.get_text_config(), decoder_layers(base)
    if first > len(layers):
        raise ValueError(f"base_layers is {first}, but {len(layers)} layers are found in {type(base).__name__}.")
    for name, value in list(vars(config).items()):
        if "layer" in name and isinstance(value, list | tuple) and len(value) == len(layers):  # one for each layer
            setattr(config, name, value[:first])
    del layers[first:]
    config.num_hidden_layers = first
    base.kept_layers = first  # type: ignore[assignment]


def tune_base(base: PreTrainedModel, config: E4SRecConfig) -> None:
    """Cut the base to the layers that are read, freeze it and put LoRA layers in, or make all of it trainable.

    It is changed in place. It is a `ValueError` if it is no decoder, has LoRA already, cannot be trained so or has too
    few layers, or LoRA would change its weights.
    """
    if base.config.is_encoder_decoder:
        raise ValueError(f"{type(base).__name__} is an encoder-decoder; E4SRec needs a decoder-only base.")
    if any(".lora_" in name for name, _ in base.named_parameters()):
        raise ValueError("The base carries LoRA already: load it afresh, merge it, or pass the E4SRec model around it.")
    keep_layers(base, config.base_layers)
    if config.tuning == "full":
        if getattr(base, "is_quantized", False):
            raise ValueError('A quantized base cannot be trained whole: use tuning="lora".')
        base.requires_grad_(True)
        return
    bias, start = config.lora.get("bias", "none"), config.lora.get("init_lora_weights", True)
    if bias != "none" or start not in HARMLESS_STARTS:
        raise ValueError(
            f'lora would change the base, which others may read: bias must be "none" (lora_bias=True adds some), not '
            f"{bias!r}, and init_lora_weights one of {HARMLESS_STARTS}, not {start!r}."
        )
    base.requires_grad_(False)
    try:
        inject_adapter_in_model(LoraConfig(**config.lora), base)
    except ValueError as error:
        linear = sorted({name.rpartition(".")[2] for name, m in base.named_modules() if isinstance(m, nn.Linear)})
        raise ValueError(
            f"LoRA does not fit {type(base).__name__}: {error}\n"
            f'Its linear layers are {linear}; choose with lora={{"target_modules": […]}}.'
        ) from error
