"""Facts of a training for the model card: data, settings, seeds, versions, hardware, time, learning curves."""

import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState, TrainingArguments

from ..files import TRAINING_NAME, read_json, write_json
from ..version import __version__
from .curves import learning_curve

#: Packages whose versions are recorded.
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
#: Training arguments that are recorded, besides the seeds.
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


def training_settings(arguments: TrainingArguments) -> dict[str, Any]:
    """The recorded training arguments, as plain values."""
    values = {name: getattr(arguments, name) for name in RECIPE}
    return {name: getattr(value, "value", value) for name, value in values.items()}  # enums by their value


def device_name(device: torch.device | str) -> str:
    """The name of the GPU or the processor."""
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
    """Versions of Python, this package and the packages it uses, if they are installed."""
    found = {"python": platform.python_version(), "e4srec-hf": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an optional one
            continue
    return found


def describe_training(arguments: TrainingArguments, state: TrainerState, seconds: float) -> dict[str, Any]:
    """One training as plain values.

    Returns:
        ``seconds``; ``steps``; ``learning_rate``, the highest; ``not_finite``, the last step at whose log the loss was
        NaN or infinite, if any; the ``curve``, and its entry whose weights were ``selected``, if any.
    """
    curve = learning_curve(state)
    best = state.best_global_step if arguments.load_best_model_at_end else None
    selected = next((entry for entry in curve if entry["step"] == best), None)
    broken = [int(entry["step"]) for entry in state.log_history if not math.isfinite(entry.get("loss", 0))]
    return {
        "seconds": round(seconds, 1),
        "steps": state.global_step,
        "learning_rate": arguments.learning_rate,
        "not_finite": max(broken, default=None),
        "selected": selected,
        "curve": curve,
    }


def describe_hardware(arguments: TrainingArguments) -> dict[str, Any]:
    """``device`` of a process, number of ``processes`` and, without an accelerator, of the ``threads`` of each."""
    hardware = {"device": device_name(arguments.device), "processes": arguments.world_size}
    return hardware | ({"threads": torch.get_num_threads()} if arguments.device.type == "cpu" else {})


def load_facts(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of ``training.json``; empty if there is no such file.

    Raises:
        ValueError: If the file is not a JSON object.
    """
    return read_json(Path(directory, TRAINING_NAME))


def add_facts(directory: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
    """Add facts to ``training.json``; facts of the same name are replaced."""
    write_json(Path(directory, TRAINING_NAME), {**load_facts(directory), **facts})
