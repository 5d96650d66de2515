"""The facts of a training that a model card tells: data, settings, seeds, versions, hardware, time, learning curves."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import TrainerState, TrainingArguments

from . import __version__
from .data.sequences import catalogue, sequences_sha256
from .json_files import read_json, write_json
from .learning_curves import learning_curve

#: The facts, beside the model.
TRAINING_NAME = "training.json"
#: The packages whose versions a training depends on.
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "bitsandbytes",
    "numpy",
)
#: The training arguments that make a model what it is, besides seeds.
RECIPE = (
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "optim",
    "max_grad_norm",
    "train_sampling_strategy",
    "bf16",
    "fp16",
)


def describe_data(source: str | os.PathLike[str], sequences: Dataset, n_items: int | None = None) -> dict[str, Any]:
    """What a card says of the data.

    Args:
        source: What `load_sequences` was given: a file, a folder or a Hub data set. A path is cut to its last part.
        sequences: All sequences, before they are split.
        n_items: Items of the catalogue, where it has more than the sequences.

    Returns:
        ``name``, ``hub_id`` (``None`` where it is none), ``users``, ``items``, ``interactions`` and ``sha256`` of the
        sequences.
    """
    name = os.fspath(source)
    return {
        "name": without_folders(name),
        "hub_id": name if is_hub_id(name) else None,
        "users": len(sequences),
        "items": len(catalogue(sequences)) if n_items is None else n_items,
        "interactions": sum(len(items) for items in sequences["item_ids"]),
        "sha256": sequences_sha256(sequences),
    }


def is_hub_id(name: str | None) -> bool:
    """Whether a name is ``namespace/name`` as on the Hub, and no file or folder here."""
    if name is None or name.count("/") != 1 or os.path.exists(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def without_folders(value: Any) -> Any:
    """The name of a file or folder alone where a value is the path of one: where it lay is nobody's business."""
    is_path = isinstance(value, str) and "\n" not in value and "\0" not in value and os.path.exists(value)
    return Path(value).name or value if is_path else value


def training_settings(arguments: TrainingArguments) -> dict[str, Any]:
    """The training arguments that make a model what it is, as plain values."""
    values = {name: getattr(arguments, name) for name in RECIPE}
    return {name: getattr(value, "value", value) for name, value in values.items()}  # enums by their value


def device_name(device: torch.device | str) -> str:
    """What a device is called: the GPU, or the processor."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{device.type} of {platform.machine()}"
    if (info := Path("/proc/cpuinfo")).is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def package_versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it stands on, as far as it is installed."""
    found = {"python": platform.python_version(), "e4srec-hf": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an optional one
            continue
    return found


def describe_training(arguments: TrainingArguments, state: TrainerState, seconds: float) -> dict[str, Any]:
    """One training: ``seconds``, its ``curve``, and the entry of the curve whose weights were ``selected``, if any."""
    curve = learning_curve(state)
    best = state.best_global_step if arguments.load_best_model_at_end else None
    selected = next((entry for entry in curve if entry["step"] == best), None)
    return {"seconds": round(seconds, 1), "selected": selected, "curve": curve}


def describe_hardware(arguments: TrainingArguments) -> dict[str, Any]:
    """``device`` of a process, number of ``processes`` and, without an accelerator, of the ``threads`` of each."""
    hardware = {"device": device_name(arguments.device), "processes": arguments.world_size}
    return hardware | ({"threads": torch.get_num_threads()} if arguments.device.type == "cpu" else {})


def load_facts(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``training.json`` says; empty where there is none.

    Raises:
        ValueError: If the file holds anything else.
    """
    return read_json(Path(directory, TRAINING_NAME))


def add_facts(directory: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
    """Put facts beside those that ``training.json`` has, or in their place."""
    write_json(Path(directory, TRAINING_NAME), {**load_facts(directory), **facts})
