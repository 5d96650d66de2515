"""The second stage of a training: its base, found or made, and the settings of the adapter on it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub import HfApi
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
)
from transformers.pytorch_utils import Conv1D

from ..base_models import check_is_base, check_weight_files, check_width_for_4bit, gguf_header, quantization
from ..data.item_texts import with_text
from ..data.item_vectors import is_sasrec
from ..errors import naming, one_line
from ..modeling.bases import gguf_config, keep_layers, open_base
from ..modeling.histories import FIRST_ITEM_ID
from ..paths import check_exists
from .arguments import ModelArguments
from .progress import say
from .tiny_base import make_tiny_base


def check_access(arguments: ModelArguments, training: TrainingArguments) -> None:
    """Look for the base and the item vectors, and ask the Hub who may push, before anything is trained.

    Raises:
        ValueError: If the base's config, or a tokenizer for the prompt, cannot be found, its weights are in files that
            are not read, it has fewer layers than are asked for, or the token is not known.
        FileNotFoundError: If there is no such folder or file.
    """
    if training.push_to_hub:
        try:
            HfApi(token=training.hub_token).whoami()
        except (OSError, ValueError) as error:
            raise ValueError(f"--push_to_hub: {error}") from error
    if arguments.item_embeddings is not None:
        check_exists(arguments.item_embeddings)
        if Path(arguments.item_embeddings).is_file() and is_sasrec(arguments.item_embeddings):
            raise ValueError(
                f"--item_embeddings {arguments.item_embeddings}: expected a .safetensors or .npy file, or a SASRec "
                "folder or Hub id. e4srec import-reference converts a table of the reference implementation."
            )
    if arguments.model == "sasrec":
        return
    if arguments.base_model is None:
        check_base_layers(arguments, arguments.made_base_layers)
        width, heads = arguments.made_base_hidden_size, arguments.made_base_heads
        config: PretrainedConfig = LlamaConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=1, num_attention_heads=heads
        )
        check_lora_modules(arguments, config)
        check_blocks(arguments, config)
        return
    check_exists(arguments.base_model, bare_names=True)
    try:
        with naming("it"):
            check_is_base(arguments.base_model)
            config = read_config(arguments)
            check_weight_files(arguments.base_model)
    except (OSError, ValueError) as error:
        raise ValueError(f"--base_model {arguments.base_model} cannot be used: {error}") from error
    check_base_layers(arguments, config.get_text_config().num_hidden_layers)
    check_lora_modules(arguments, config)
    check_blocks(arguments, config)


def read_config(arguments: ModelArguments) -> PretrainedConfig:
    """The config of a given base, where there is a tokenizer for the prompt too.

    Raises:
        ValueError: If there is none, or a GGUF file cannot be read or is to be quantized once more.
        OSError: If one of the two is not found.
    """
    base = str(arguments.base_model)
    needs_words = bool(arguments.instruction or arguments.response or arguments.item_text)
    if not os.path.isfile(base):
        if needs_words:
            AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        return AutoConfig.from_pretrained(base, trust_remote_code=False)
    if arguments.load_in_4bit or arguments.load_in_8bit:
        raise ValueError("a GGUF file is dequantized: leave out --load_in_4bit and --load_in_8bit.")
    if needs_words and "tokenizer.ggml.tokens" not in gguf_header(base):  # the tokenizer itself takes long to build
        raise ValueError(
            'it has no tokenizer for the prompt: --instruction "" --response "" leave the prompt out, and --item_text '
            "false the titles."
        )
    try:
        return gguf_config(base)
    except Exception as error:  # of any kind, if an architecture is not known or a number is out of range
        raise ValueError(one_line(error)) from error


def check_base_layers(arguments: ModelArguments, depth: int) -> None:
    """Refuse to read more layers of a base than its ``depth``.

    Raises:
        ValueError: If so many are asked for.
    """
    if arguments.base_layers is not None and arguments.base_layers > depth:
        raise ValueError(f"--base_layers {arguments.base_layers}: the base has only {depth} layers.")


def check_lora_modules(arguments: ModelArguments, config: PretrainedConfig) -> None:
    """Refuse names of modules that a base does not have; the base is built without memory.

    Raises:
        ValueError: If a name ends that of no linear layer; the message lists theirs.
    """
    if arguments.lora_target_modules is None or arguments.tuning == "full":
        return
    with torch.device("meta"):
        base = AutoModel.from_config(config, trust_remote_code=False)
    linear = [name for name, module in base.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    for wanted in arguments.lora_target_modules:
        if not any(f".{name}".endswith(f".{wanted}") for name in linear):
            names = sorted({name.rpartition(".")[2] for name in linear})
            raise ValueError(
                f"--lora_target_modules {wanted}: the base has no linear layer of this name. Names, not regular "
                f"expressions, are taken: {', '.join(names)}."
            )


def check_blocks(arguments: ModelArguments, config: PretrainedConfig) -> None:
    """Refuse ``--load_in_4bit`` for a base that cannot be computed with then.

    Raises:
        ValueError: If a layer is too narrow.
    """
    if arguments.load_in_4bit:
        check_width_for_4bit(config, PartialState().device, "--load_in_4bit")


def find_base(arguments: ModelArguments, training: TrainingArguments) -> str:
    """The base that was asked for, or a small one with random weights, made in the folder ``base`` of the output."""
    if arguments.base_model is not None:
        return arguments.base_model
    state = PartialState()
    base_model = str(Path(str(training.output_dir), "base"))
    if state.is_main_process:
        make_tiny_base(
            base_model,
            hidden_size=arguments.made_base_hidden_size,
            num_hidden_layers=arguments.made_base_layers,
            num_attention_heads=arguments.made_base_heads,
            texts=(arguments.instruction, arguments.response),
            seed=training.seed,
        )
    state.wait_for_everyone()
    say(f"No --base_model: a small Llama with random weights is made in {base_model}.")
    return base_model


def check_titles(arguments: ModelArguments, data: str, titles: Mapping[str, str]) -> None:
    """Refuse ``--item_text`` where there is nothing to read.

    Raises:
        ValueError: If the data set has not two titles that differ.
    """
    if arguments.item_text and len({title.strip() for title in titles.values()} - {""}) < 2:
        raise ValueError(
            f"--item_text true: {data} has no titles that tell its items apart. e4srec prepare takes them from "
            "--metadata or --title-column."
        )


def read_titles(
    arguments: ModelArguments,
    training: TrainingArguments,
    base_model: str,
    vectors: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    titles: Mapping[str, str],
) -> tuple[PreTrainedModel, Tensor]:
    """The base as it will be read, and item vectors with those that it reads in titles beside them."""
    how = quantization(arguments.load_in_4bit, arguments.load_in_8bit, PartialState().device)
    base: Any = open_base(base_model, tuning="lora", **how)
    keep_layers(base, arguments.base_layers)
    if not getattr(base, "is_quantized", False):
        base.to(training.device)
    table = with_text(vectors, tokenizer, titles, base)
    width, named = vectors.shape[1], sum(item in titles for item in tokenizer.get_vocab())
    say(
        f"Item vectors: {width} wide, and {table.shape[1] - width} of their titles beside them, which "
        f"{named:,} of {len(tokenizer) - FIRST_ITEM_ID:,} items have."
    )
    return base, table


def adapter_settings(arguments: ModelArguments) -> dict[str, Any]:
    """The keyword arguments of `E4SRecModel.from_base`."""
    lora: dict[str, Any] = {
        "r": arguments.lora_r,
        "lora_alpha": arguments.lora_alpha,
        "lora_dropout": arguments.lora_dropout,
    }
    if arguments.lora_target_modules is not None:
        lora["target_modules"] = arguments.lora_target_modules
    settings = {
        "instruction": arguments.instruction,
        "response": arguments.response,
        "max_history": arguments.max_history,
        "lora": lora,
        "head": arguments.head,
        "tuning": arguments.tuning,
        "base_layers": arguments.base_layers,
        "train_item_embeddings": arguments.train_item_embeddings,
        "projection_init": "random" if arguments.projection_init == "random" else "orthogonal",
        "item_dropout": arguments.item_dropout,
        "base_dropout": arguments.base_dropout,
    }
    settings |= quantization(arguments.load_in_4bit, arguments.load_in_8bit, PartialState().device)
    return settings
