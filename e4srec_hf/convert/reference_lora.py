"""The LoRA of an imported model: its weights, and the settings that say how they are used."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from torch import Tensor

from ..files import read_json
from ..modeling.configuration_e4srec import PAPER_LORA
from .tensor_files import load_named_tensors

#: PEFT's settings of a LoRA.
CONFIG_FILE = "adapter_config.json"
#: Fields of an ``adapter_config.json`` that say how the weights are used; they are carried over.
CARRIED_LORA_FIELDS = (
    *PAPER_LORA,
    "alpha_pattern",
    "exclude_modules",
    "fan_in_fan_out",
    "layers_pattern",
    "layers_to_transform",
    "lora_bias",
    "rank_pattern",
    "use_rslora",
)
#: Fields that say nothing about what trained weights compute.
OTHER_LORA_FIELDS = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "runtime_config",
    "task_type",
)


def lora_settings_and_weights(
    weights: dict[str, Tensor],
    adapter: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None,
    lora_alpha: float | None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and weights of LoRA, from the adapter's own file or from the folder that PEFT saved.

    Args:
        weights: The LoRA weights in the adapter's own file; may be none.
        adapter: That file.
        folder: The folder that PEFT saved; by default the one that ``adapter`` lies in.
        lora_alpha: What the weights in the adapter's own file are scaled by, divided by their rank; needed where no
            ``adapter_config.json`` is beside it.

    Returns:
        Fields of `LoraConfig`, and the weights under PEFT's names.

    Raises:
        ValueError: If it is not known how the weights are used, or that cannot be carried over.
        FileNotFoundError: If there are no LoRA weights.
    """
    if weights and folder is not None:
        raise ValueError(f"There are LoRA weights in {adapter} and, by lora=, in {folder}: give one of them.")
    if not weights:
        return _peft_folder(Path(adapter).parent if folder is None else Path(folder), lora_alpha)
    if (config := _config_beside(Path(adapter).parent)) is not None:
        return _settings(config, lora_alpha), weights
    if lora_alpha is None:
        raise ValueError(
            f"{adapter} does not say by how much its LoRA weights are scaled: pass lora_alpha= of the training "
            "(16 where it was left out)."
        )
    ranks = {len(tensor) for name, tensor in weights.items() if ".lora_A." in name}
    if len(ranks) != 1:
        raise ValueError(f"The LoRA weights in {adapter} have the ranks {sorted(ranks)}; expected one.")
    modules = {re.sub(r"\.lora_.*", "", name).rpartition(".")[2] for name in weights}
    return {"r": ranks.pop(), "lora_alpha": lora_alpha, "target_modules": sorted(modules)}, weights


def _config_beside(folder: Path) -> Path | None:
    """What PEFT said of the LoRA in a folder; for a checkpoint, also in the output folder around it."""
    folders = [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]
    return next((found for place in folders if (found := place / CONFIG_FILE).exists()), None)


def _peft_folder(folder: Path, lora_alpha: float | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = folder / CONFIG_FILE
    files = [folder / name for name in ("adapter_model.safetensors", "adapter_model.bin") if (folder / name).exists()]
    if not config.exists() or not files:
        raise FileNotFoundError(
            f"{folder} has no adapter_config.json with an adapter_model.safetensors or .bin: pass the folder that the "
            "reference saved its LoRA weights to with lora=."
        )
    weights = load_named_tensors(files[0])
    if not weights:
        raise ValueError(
            f"{files[0]} is empty, as some versions of PEFT left it: give a checkpoint of the training as the adapter."
        )
    return _settings(config, lora_alpha), weights


def _settings(config: Path, lora_alpha: float | None) -> dict[str, Any]:
    fields = read_json(config)
    check_lora_fields(fields, config)
    if lora_alpha not in (None, fields.get("lora_alpha")):
        raise ValueError(f"lora_alpha={lora_alpha} was passed, but {config} says {fields.get('lora_alpha')}.")
    return {name: fields[name] for name in CARRIED_LORA_FIELDS if fields.get(name) is not None}


def check_lora_fields(fields: Mapping[str, Any], file: Any) -> None:
    """Refuse an ``adapter_config.json`` of another kind than LoRA, or with settings that are not carried over.

    Raises:
        ValueError: It names them.
    """
    if fields.get("peft_type") != "LORA":
        raise ValueError(f"{file} is of the PEFT type {fields.get('peft_type')}; only LORA can be imported.")
    if missing := [name for name in ("r", "lora_alpha", "target_modules") if fields.get(name) is None]:
        raise ValueError(f"{file} does not say {', '.join(missing)}.")
    defaults = LoraConfig()
    strangers = {
        name: value
        for name, value in fields.items()
        if name not in (*CARRIED_LORA_FIELDS, *OTHER_LORA_FIELDS) and value and value != getattr(defaults, name, None)
    }
    if strangers:
        raise ValueError(
            f"{file} has settings that are not carried over: {', '.join(f'{n}={v!r}' for n, v in strangers.items())}"
        )


def peft_name(name: str) -> str:
    """A LoRA weight's name below the base, without the name that PEFT gives an adapter while it is loaded."""
    name = name.removeprefix("base.").removeprefix("base_model.model.")
    return re.sub(r"(\.lora_[AB])\.default\b", r"\1", name)
