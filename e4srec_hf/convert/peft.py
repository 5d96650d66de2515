"""Out again: the LoRA of an adapter as PEFT saves it, for tools that know PEFT and not E4SRec."""

import copy
import os
from pathlib import Path
from typing import cast

from peft import PeftConfig, TaskType, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME

from ..modeling.configuration_e4srec import E4SRecConfig
from ..modeling.saving import staged_directory


def export_peft(base: PreTrainedModel, config: E4SRecConfig, directory: str | os.PathLike[str]) -> None:
    """Write the LoRA of ``base`` as a PEFT adapter. See [`E4SRecModel.export_peft`]."""
    if config.tuning != "lora":
        raise ValueError(f'There is no LoRA to export: the base was trained whole (tuning="{config.tuning}").')
    if Path(directory, CONFIG_NAME).exists():
        raise FileExistsError(
            f"{directory} holds a {CONFIG_NAME}: with an adapter_config.json beside it, AutoModel would load the bare "
            "base from there. Export to a folder of its own."
        )
    # PEFT leaves the settings with the base that it put LoRA into, target modules resolved
    settings = cast(PeftConfig, copy.deepcopy(base.peft_config["default"]))  # type: ignore[index]
    settings.task_type = TaskType.FEATURE_EXTRACTION
    settings.base_model_name_or_path = config.base_model_name_or_path
    settings.revision = config.base_model_revision
    settings.inference_mode = True
    tensors = get_peft_model_state_dict(base, save_embedding_layers=False)
    with staged_directory(directory) as stage:
        settings.save_pretrained(str(stage))
        save_file(
            {f"base_model.model.{name}": tensor.detach().contiguous() for name, tensor in tensors.items()},
            stage / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
