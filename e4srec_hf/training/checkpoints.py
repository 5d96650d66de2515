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
from .outcome import FLAGS

#: What a training that is resumed keeps, in a checkpoint.
RECORD_NAME = "kept_settings.json"


class RecordSettings(TrainerCallback):
    """Writes into each checkpoint the settings that a training which goes on from it keeps.

    The state of the scheduler holds the learning rates, and the steps that were made count rows. The rates of parts of
    a model follow from the weights of its start, which a checkpoint does not have.

    Args:
        rates: Name of the part to its rate.
    """

    def __init__(self, rates: Mapping[str, float]) -> None:
        self.rates = dict(rates)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write them, in the main process."""
        if state.is_world_process_zero:
            checkpoint = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            kept = {
                "learning_rate": args.learning_rate,
                "rows_a_step": _rows_a_step(args),
                "rates_of_parts": self.rates,
            }
            write_json(Path(str(args.output_dir), checkpoint, RECORD_NAME), kept)


def recorded_rates(checkpoint: str) -> dict[str, float] | None:
    """The learning rates of parts that were recorded in a checkpoint; ``None`` if none were."""
    return _recorded(checkpoint).get("rates_of_parts")


def _recorded(checkpoint: str) -> dict[str, Any]:
    return read_json(Path(checkpoint, RECORD_NAME))


def _rows_a_step(args: TrainingArguments) -> int:
    return args.train_batch_size * args.world_size * args.gradient_accumulation_steps


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


def check_keeps(checkpoint: str | None, training: TrainingArguments, name: str) -> None:
    """Refuse settings that a training which goes on from a checkpoint would not follow.

    Args:
        checkpoint: The checkpoint, if there is one.
        training: The arguments of the training that goes on.
        name: What is trained, ``"E4SRec"`` or ``"SASRec"``: its flags are named.

    Raises:
        ValueError: If the learning rate, or how many rows a step has, is another than it was.
    """
    kept = {} if checkpoint is None else _recorded(checkpoint)
    rate_flag, _, batch_flag, _ = FLAGS[name]
    rate, rows = kept.get("learning_rate"), kept.get("rows_a_step")
    if rate is not None and rate != training.learning_rate:
        raise ValueError(
            f"{rate_flag} {training.learning_rate:g}: the training that is resumed keeps its own. Give {rate_flag} "
            f"{rate:g}."
        )
    if rows is not None and rows != _rows_a_step(training) and not training.auto_find_batch_size:
        raise ValueError(
            f"{batch_flag} {training.per_device_train_batch_size}: a step would have {_rows_a_step(training)} rows, "
            f"and has {rows} in the training that is resumed. Give the settings of that run, on as many processes."
        )


def check_fits(checkpoint: str | None, model: nn.Module) -> None:
    """Refuse to go on from a checkpoint whose weights have other names or shapes than those of the model.

    Raises:
        ValueError: If a weight differs; it is named.
    """
    if checkpoint is None or not Path(checkpoint, WEIGHTS_NAME).is_file():
        return
    own = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with safe_open(Path(checkpoint, WEIGHTS_NAME), framework="pt") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118 - no mapping
    for name in sorted({*shapes, *trained}):
        if name not in own or name not in shapes:
            problem = "is in one of the two only"
        elif own[name] != shapes[name]:
            problem = f"is {shapes[name]} there and {own[name]} now"
        else:
            continue
        raise ValueError(
            f"--resume_from_checkpoint: {checkpoint} is of a run with other settings: {name} {problem}. Give the "
            "settings of that run."
        )


def remove_checkpoints(training: TrainingArguments) -> None:
    """Clear the output folder of the checkpoints of an earlier run."""
    state = PartialState()
    if state.is_main_process:
        for stage in (Path(str(training.output_dir)), Path(str(training.output_dir), "sasrec")):
            for checkpoint in stage.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
    state.wait_for_everyone()
