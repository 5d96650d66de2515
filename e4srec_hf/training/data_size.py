"""Settings that follow from the size of the data."""

import dataclasses
import math
from typing import Any

from transformers import TrainingArguments

from .arguments import MOST_ITEMS_OF_A_LINEAR_HEAD, ModelArguments

#: Targets that a step has, about: few data are cut into more steps.
TARGETS_A_STEP = (32, 256)
#: Steps of an epoch that few data are cut into, as far as that goes; of SASRec's too.
STEPS_AN_EPOCH = 64
#: Epochs are added until a training has so many steps.
STEPS = 600
EPOCHS = (3, 10)
#: Users that a step of SASRec has: few users are cut into more steps.
USERS_A_STEP = (8, 128)
#: Share of the steps in which the learning rate rises.
WARMUP = 0.1


def settings_for(users: int, targets: int, batches_a_step: int = 1, batch: int | None = None) -> dict[str, Any]:
    """Batch size, epochs and warm-up for a data set.

    Args:
        users: How many there are to train on, or rows that they are cut into.
        targets: How many targets they have in an epoch.
        batches_a_step: Of all processes, and of gradient accumulation.
        batch: The batch size, if it is given; epochs follow from it.
    """
    per_row = max(targets / max(users, 1), 1.0) * batches_a_step
    wanted = min(max(targets / STEPS_AN_EPOCH, TARGETS_A_STEP[0]), TARGETS_A_STEP[1])
    batch = batch or 2 ** max(round(math.log2(wanted / per_row)), 0)
    steps = max(users / (batch * batches_a_step), 1.0)
    epochs = min(max(math.ceil(STEPS / steps), EPOCHS[0]), EPOCHS[1])
    return {"per_device_train_batch_size": batch, "num_train_epochs": float(epochs), "warmup_steps": WARMUP}


def head_for(items: int) -> str:
    """The scoring head for a catalogue of so many items."""
    return "linear" if items <= MOST_ITEMS_OF_A_LINEAR_HEAD else "tied"


def sasrec_batch_size(users: int, processes: int = 1) -> int:
    """Users a batch of SASRec, on each of the processes."""
    wanted = min(max(users / STEPS_AN_EPOCH, USERS_A_STEP[0]), USERS_A_STEP[1]) / processes
    return 2 ** max(round(math.log2(wanted)), 0)


def settle(
    training: TrainingArguments, adapter: ModelArguments, rows: Any, *, all_targets: bool = False
) -> tuple[TrainingArguments, str]:
    """The arguments of the adapter's training with what was not given, and a line that says it; empty if all was given.

    Args:
        training: The arguments.
        adapter: Its ``from_the_data`` are the names of what was not given.
        rows: The training rows, with ``item_ids``; a stream is read once.
        all_targets: Whether targets before the last ``max_history`` of a user count too.
    """
    if not adapter.from_the_data:
        return training, ""
    longest = adapter.max_history
    lengths = [len(items) for items in rows["item_ids"]]
    if all_targets:  # as `cut_into_segments` cuts them
        lengths = [min(end, longest) for length in lengths for end in range(length, 0, -longest)]
    most = min(adapter.max_targets or longest, longest)
    batches = training.world_size * training.gradient_accumulation_steps
    batch = None if "per_device_train_batch_size" in adapter.from_the_data else training.per_device_train_batch_size
    found = settings_for(len(lengths), sum(min(length, most) for length in lengths), batches, batch)
    chosen = {name: value for name, value in found.items() if name in adapter.from_the_data}
    if training.max_steps > 0:
        chosen.pop("num_train_epochs", None)
    said = ", ".join(f"--{name} {value:g}" for name, value in chosen.items())
    return dataclasses.replace(training, **chosen), said and f"For data of this size: {said}."
