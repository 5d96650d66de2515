"""A base before it is loaded: how it is quantized, and whether its weights are in files that are read."""

import json
import logging
import os
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig, PretrainedConfig
from transformers.integrations.gguf import read_gguf_metadata
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_gguf_available

#: The pickles that transformers reads and writes as safetensors.
TORCH_WEIGHTS = "pytorch_model*.bin"
#: Files of weights in formats that are not read.
OTHER_WEIGHTS = (
    *(TORCH_WEIGHTS, "model*.bin", "consolidated*.pth", "model*.pt", "model*.pth"),
    *("*.gguf", "tf_model*.h5", "flax_model*.msgpack"),
)


def quantization(load_in_4bit: bool, load_in_8bit: bool, device: Any) -> dict[str, Any]:
    """The arguments of ``from_base`` and ``from_pretrained`` that quantize a base with bitsandbytes; none if not asked.

    Args:
        load_in_4bit: NF4, computed in bfloat16.
        load_in_8bit: LLM.int8, as the reference implementation loads its base.
        device: Where the base goes: a quantized model cannot be moved later.

    Raises:
        ValueError: If both are asked for.
    """
    if load_in_4bit and load_in_8bit:
        raise ValueError("load_in_4bit and load_in_8bit exclude each other: leave one of them out.")
    if not (load_in_4bit or load_in_8bit):
        return {}
    # it would say in every layer that inputs are rounded
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    config = (
        BitsAndBytesConfig(load_in_8bit=True)
        if load_in_8bit
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    )
    return {"quantization_config": config, "device_map": {"": device}}


def check_width_for_4bit(config: PretrainedConfig, device: Any, setting: str = "load_in_4bit") -> None:
    """Refuse a base whose layers bitsandbytes cannot divide into the blocks of 4 bits that it computes with on a CPU.

    Args:
        config: The config of the base, which is built without memory.
        device: Where the base goes.
        setting: What asks for 4 bits, in messages.

    Raises:
        ValueError: If a layer is too narrow; the message names it.
    """
    if torch.device(device).type != "cpu":
        return
    with torch.device("meta"):
        base = AutoModel.from_config(config, trust_remote_code=False)
    for name, layer in base.named_modules():
        if isinstance(layer, nn.Linear | Conv1D):
            inner, outer = layer.weight.shape if isinstance(layer, Conv1D) else reversed(layer.weight.shape)
            if inner % 64 or outer % 32:
                raise ValueError(
                    f"{setting}: on a CPU a layer must go from a multiple of 64 to a multiple of 32, and {name} of the "
                    f"base goes from {inner} to {outer}. Quantize to 8 bits, or not at all."
                )


def check_is_base(name: str | os.PathLike[str], **hub_arguments: Any) -> None:
    """Refuse a model of this package, and a file that is no GGUF file, where a base is expected.

    Args:
        name: Folder, GGUF file or Hub id.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Raises:
        ValueError: If it is one.
        OSError: If there is no model.
    """
    if os.path.isfile(name):
        gguf_header(name)
        return
    kind = PretrainedConfig.get_config_dict(name, **hub_arguments)[0].get("model_type")
    if kind in ("e4srec", "sasrec"):
        what = "an adapter" if kind == "e4srec" else "a SASRec"
        raise ValueError(f"{os.fspath(name)} is {what} (model_type {kind}), not a base: give a language model.")


def gguf_header(file: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a GGUF file, lists of words as their lengths. Its weights are not read.

    Raises:
        ValueError: If it is another file, its header is damaged, or the package gguf is missing.
    """
    try:
        metadata, _ = read_gguf_metadata(os.fspath(file))
    except Exception as error:  # struct's and numpy's, for what is cut off or out of range
        raise ValueError(f"{os.fspath(file)} is not a GGUF file, or it is damaged: {error}") from error
    if not is_gguf_available():
        raise ValueError(f"{os.fspath(file)} is a GGUF file: pip install 'e4srec-hf[gguf]' to read it.")
    return metadata


def check_weight_files(
    name: str | os.PathLike[str], *, revision: str | None = None, token: str | bool | None = None
) -> None:
    """Refuse a base whose weights are all in files that are not read, before work is spent on it.

    A base without any weights passes: an import does not need them. So does one on the Hub if the Hub gives no answer,
    as in offline mode: it may be in the cache. A GGUF file passes, a folder of them does not: there may be several.

    Args:
        name: Folder, GGUF file or Hub id.
        revision: Revision on the Hub.
        token: For the Hub.

    Raises:
        ValueError: It names a file, and says how to convert it.
    """
    if os.path.isfile(name):
        return
    if os.path.isdir(name):
        files = [file.name for file in Path(name).iterdir()]
    else:
        try:
            info = HfApi(token=token).model_info(os.fspath(name), revision=revision, timeout=10)  # asks once
        except HfHubHTTPError:
            raise
        except (HTTPError, OfflineModeIsEnabled):  # HTTPError is that of the HTTP library in use
            return
        files = [file.rfilename for file in info.siblings or []]
    others = sorted(file for file in files if any(fnmatch(file, pattern) for pattern in OTHER_WEIGHTS))
    if not others or any(file.endswith(".safetensors") for file in files):
        return
    gguf = [file for file in others if file.endswith(".gguf")]
    if gguf and os.path.isdir(name):
        raise ValueError(f"{os.fspath(name)} is a folder with GGUF files: give the file, {os.path.join(name, gguf[0])}")
    name, way_out = os.fspath(name), "give a copy of it in that format"
    if any(fnmatch(file, TORCH_WEIGHTS) for file in others):
        source, target = json.dumps(name), json.dumps(f"{os.path.basename(os.path.abspath(name))}-safetensors")
        code = (
            "from transformers import AutoModelForCausalLM as Model, AutoTokenizer as Words; "
            f"[Part.from_pretrained({source}).save_pretrained({target}) for Part in (Model, Words)]"
        )
        way_out = f"if you trust it, convert it once and give the new folder: python -c {shlex.quote(code)}"
    raise ValueError(
        f"The weights of the base {name} are in {', '.join(others[:3])}{', …' if len(others) > 3 else ''}. "
        f"Only safetensors files are read, because a pickle can run code: {way_out}"
    )
