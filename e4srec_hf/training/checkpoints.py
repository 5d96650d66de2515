"""Checkpoints in the output folder of a training: what to go on from, and what an earlier run left."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from safetensors import safe_open
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from ..files import read_json, write_json
from ..modeling.saving import WEIGHTS_NAME

#: Learning rates of parts of the model, in a checkpoint.
RATES_NAME = "learning_rates.json"


class RecordLearningRates(TrainerCallback):
    """Writes the learning rates of parts of a model into each checkpoint: they follow from the weights of the start.

    Args:
        rates: Name of the part to its rate.
    """

    def __init__(self, rates: Mapping[str, float]) -> None:
        self.rates = dict(rates)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write them, in the main process."""
        if state.is_world_process_zero:
            checkpoint = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            write_json(Path(str(args.output_dir), checkpoint, RATES_NAME), self.rates)


def recorded_rates(checkpoint: str) -> dict[str, float] | None:
    """The learning rates that were recorded in a checkpoint; ``None`` if none were."""
    file = Path(checkpoint, RATES_NAME)
    return read_json(file) if file.is_file() else None


def find_checkpoints(training: TrainingArguments, *, overwrite: bool = False) -> dict[str, str | None]:
    """The checkpoints to go on from, of the adapter (``e4srec``) and of SASRec (``sasrec``).

    Args:
        training: Arguments of the adapter; ``resume_from_checkpoint`` says whether to go on.
        overwrite: Remove the checkpoints of an earlier run if this one does not go on from them.

    Raises:
        ValueError: If there is nothing to resume, or an earlier run would get mixed up with this one.
    """
    asked = str(training.resume_from_checkpoint or "false")
    if overwrite and asked.lower() == "false":
        remove_checkpoints(training)
    output = Path(str(training.output_dir))
    stages = {"e4srec": output, "sasrec": output / "sasrec"}
    found = {name: get_last_checkpoint(str(stage)) if stage.is_dir() else None for name, stage in stages.items()}
    if asked.lower() == "true":
        if not any(found.values()):
            raise ValueError(f"--resume_from_checkpoint: there is no checkpoint in {output}.")
        return found
    if asked.lower() != "false":
        if not Path(asked).is_dir():
            raise ValueError(f"--resume_from_checkpoint: there is no folder {asked}.")
        return found | {"e4srec": asked}
    if any(found.values()):
        raise ValueError(
            f"{output} holds checkpoints of an earlier run. Go on from them with --resume_from_checkpoint true, remove "
            "them with --overwrite true, or choose another --output_dir."
        )
    return found


def check_fits(checkpoint: str | None, model: nn.Module) -> None:
    """Refuse to go on from a checkpoint whose weights have other shapes than those of the model.

    Raises:
        ValueError: If a weight differs; it is named.
    """
    if checkpoint is None or not Path(checkpoint, WEIGHTS_NAME).is_file():
        return
    own = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    with safe_open(Path(checkpoint, WEIGHTS_NAME), framework="pt") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118 - no mapping
    for name, shape in sorted(shapes.items()):
        if own.get(name, shape) != shape:
            raise ValueError(
                f"--resume_from_checkpoint: {checkpoint} is of a run with other settings: {name} is {shape} there and "
                f"{own[name]} now. Give the settings of that run."
            )


def remove_checkpoints(training: TrainingArguments) -> None:
    """Clear the output folder of the checkpoints of an earlier run."""
    state = PartialState()
    if state.is_main_process:
        for stage in (Path(str(training.output_dir)), Path(str(training.output_dir), "sasrec")):
            for checkpoint in stage.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
    state.wait_for_everyone()
