"""The language model underneath: finding it, checking that it fits, and making the right part of it trainable."""

import os
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import safe_open
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from .configuration_e4srec import PAPER_LORA, E4SRecConfig

logger = logging.get_logger(__name__)


def text_embeddings(base: PreTrainedModel) -> nn.Embedding:
    """The token embeddings of a base: their width is the hidden size that items are lifted to."""
    return cast(nn.Embedding, base.get_input_embeddings())


@torch.no_grad()
def is_causal(base: PreTrainedModel) -> bool:
    """Whether a base looks only back, found out by changing the end of a sequence and watching its beginning."""
    embeddings = text_embeddings(base)
    was_training = base.training
    base.eval()
    ends = torch.tensor([[0, 1, 2, 3], [0, 1, 3, 2]], device=embeddings.weight.device)
    states = base(
        inputs_embeds=embeddings(ends), attention_mask=torch.ones_like(ends), use_cache=False
    ).last_hidden_state
    base.train(was_training)
    return torch.allclose(states[0, :2], states[1, :2], rtol=1e-3, atol=1e-4)


def open_base(
    base_model: str | os.PathLike[str] | PreTrainedModel, revision: str | None = None, **kwargs: Any
) -> tuple[PreTrainedModel, str | None]:
    """The body of a base model, without a language-modelling head, and its name.

    Args:
        base_model: Hub id, folder, or a loaded model, which is used as it is.
        revision: Revision on the Hub.
        kwargs: Arguments of `AutoModel.from_pretrained`. A base's own code is never run.

    Raises:
        OSError: If it cannot be found.
    """
    if isinstance(base_model, PreTrainedModel):
        return cast(PreTrainedModel, base_model.base_model), base_model.config.name_or_path or None
    name = str(base_model)
    kwargs.setdefault("dtype", "auto")
    try:
        return AutoModel.from_pretrained(name, revision=revision, trust_remote_code=False, **kwargs), name
    except OSError as error:
        raise OSError(
            f"The base model {name!r} could not be loaded: {error}\n"
            "If it lies elsewhere, pass base_model=<folder, Hub id or loaded model> to from_pretrained."
        ) from error


def single_device(device_map: Any) -> torch.device:
    """The device of a ``device_map`` that names one, as a model without a base of its own to spread out needs it.

    Raises:
        ValueError: If the map names several.
    """
    if device_map == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    places = set(device_map.values()) if isinstance(device_map, dict) else {device_map}
    if len(places) != 1:
        raise ValueError(f'A model with tuning="full" stays on one device, but device_map names {places}.')
    return torch.device(places.pop())


def recorded_base(config: E4SRecConfig, adapter: str | os.PathLike[str]) -> str:
    """Name of the base that an adapter was trained on; ``./…`` is inside the adapter's folder.

    Raises:
        ValueError: If none is recorded.
    """
    name = config.base_model_name_or_path
    if name is None:
        raise ValueError(
            f"{adapter} does not say which base it was trained on: pass base_model=<folder, Hub id or loaded model>."
        )
    return str(Path(adapter, name)) if name.startswith("./") else name


def find_tokenizer(name: str, **kwargs: Any) -> PreTrainedTokenizerBase | None:
    """The text tokenizer beside a base, or ``None`` with a warning where there is none."""
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **kwargs)
    except (OSError, ValueError) as error:
        logger.warning(
            f"No tokenizer stands beside {name}: the prompt keeps the token ids of the original base. If this base "
            f"has other tokens, pass tokenizer=. ({error})"
        )
        return None


def tokenize_prompt(config: E4SRecConfig, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel) -> None:
    """Put both prompt texts into the tokens of ``base``, without special tokens, and note them in ``config``.

    Raises:
        ValueError: If a token has no row in the base, so that the tokenizer belongs to another one.
    """
    config.instruction_ids, config.response_ids = (
        tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        for text in (config.instruction, config.response)
    )
    rows = text_embeddings(base).num_embeddings
    if (highest := max([*config.instruction_ids, *config.response_ids], default=0)) >= rows:
        raise ValueError(f"The tokenizer gives token {highest}, but the base has {rows} tokens: they do not match.")


def check_hidden_size(base: PreTrainedModel, name: str | None, weights_file: str) -> None:
    """Refuse a base whose hidden size is not the one that the adapter lifts its items to.

    Raises:
        ValueError: If they differ; both are named.
    """
    with safe_open(weights_file, framework="pt") as stored:
        if "input_proj.weight" not in stored.keys():  # noqa: SIM118 - loading will name it
            return
        trained_for = stored.get_slice("input_proj.weight").get_shape()[0]
    if (hidden := text_embeddings(base).embedding_dim) != trained_for:
        raise ValueError(
            f"The base model {name or 'that was passed'} has hidden size {hidden}, but this adapter was trained on a "
            f"base with hidden size {trained_for}: pass the base it was trained on, or a fine-tune of it."
        )


def default_target_modules(base: PreTrainedModel) -> list[str] | str:
    """The three MLP matrices of the paper where the base has them, all linear layers where it names them otherwise."""
    names = {name.rpartition(".")[2] for name, _ in base.named_modules()}
    paper: list[str] = PAPER_LORA["target_modules"]
    return list(paper) if names.issuperset(paper) else "all-linear"


def tune_base(base: PreTrainedModel, config: E4SRecConfig) -> None:
    """Freeze the base and put LoRA layers in, or make all of it trainable. Changes ``base`` in place.

    Raises:
        ValueError: If the base is no decoder of its own, carries LoRA already, is quantized but to be trained whole,
            or has none of the modules that LoRA is meant for.
    """
    if base.config.is_encoder_decoder:
        raise ValueError(f"{type(base).__name__} is an encoder-decoder; E4SRec needs a decoder-only base.")
    if any(".lora_" in name for name, _ in base.named_parameters()):
        raise ValueError("The base already carries LoRA layers: load it afresh, or merge them first.")
    if config.tuning == "full":
        if getattr(base, "is_quantized", False):
            raise ValueError('A quantized base cannot be trained whole: use tuning="lora".')
        base.requires_grad_(True)
        return
    base.requires_grad_(False)
    try:
        inject_adapter_in_model(LoraConfig(**config.lora), base)
    except ValueError as error:
        linear = sorted({name.rpartition(".")[2] for name, m in base.named_modules() if isinstance(m, nn.Linear)})
        raise ValueError(
            f"LoRA does not fit {type(base).__name__}: {error}\n"
            f'Its linear layers are {linear}; choose with lora={{"target_modules": […]}}.'
        ) from error
