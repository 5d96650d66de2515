"""The LoRA of an adapter as PEFT saves it, for tools that know PEFT and not E4SRec."""

import copy
import os
from pathlib import Path
from typing import cast

from peft import LoraConfig, TaskType, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers.utils import CONFIG_NAME

from ..modeling import E4SRecModel
from ..modeling.saving import staged_directory


def export_peft(model: E4SRecModel, directory: str | os.PathLike[str]) -> None:
    """Write the LoRA weights, merged or not, as `PeftModel.from_pretrained(base, directory)` loads them.

    That base is what `AutoModel` loads, without a language-modelling head; with ``base_layers``, its states after so
    many layers are those that this model reads. The item table, the input projection and the scoring head have no
    place in a PEFT adapter.

    Args:
        model: An adapter.
        directory: The folder to write.

    Raises:
        ValueError: If there is no LoRA.
        FileExistsError: If ``directory`` holds the ``config.json`` of a model.
    """
    base, config = model.base, model.config
    if config.tuning != "lora":
        raise ValueError(f'There is no LoRA to export: the base was trained whole (tuning="{config.tuning}").')
    if Path(directory, CONFIG_NAME).exists():
        raise FileExistsError(
            f"{directory} holds a {CONFIG_NAME}: with an adapter_config.json beside it, AutoModel would load the bare "
            "base from there. Export to a folder of its own."
        )
    # PEFT leaves the settings with the base that it put LoRA into, target modules resolved
    settings = cast(LoraConfig, copy.deepcopy(base.peft_config["default"]))  # type: ignore[index]
    settings.task_type = TaskType.FEATURE_EXTRACTION
    settings.base_model_name_or_path = config.base_model_name_or_path
    settings.revision = config.base_model_revision
    settings.inference_mode = True
    tensors = get_peft_model_state_dict(base, save_embedding_layers=False)
    if config.base_layers is not None:  # by their full names: layers that are not read have such modules too
        settings.target_modules = sorted({name.partition(".lora_")[0] for name in tensors})
    with staged_directory(directory) as stage:
        settings.save_pretrained(str(stage))
        save_file(
            {f"base_model.model.{name}": tensor.detach().contiguous() for name, tensor in tensors.items()},
            stage / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
