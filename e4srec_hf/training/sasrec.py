"""The first stage of a training: SASRec, whose item embeddings are the item vectors of E4SRec."""

import dataclasses
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainingArguments, set_seed

from ..cards.callback import CardCallback
from ..data.opening import TrainingData
from ..files import TRAINING_NAME, read_json
from ..modeling import SASRecConfig, SASRecModel
from .arguments import DataArguments, SASRecArguments, card_seeds, card_settings
from .checkpoints import check_fits, check_keeps
from .data_size import sasrec_batch_size
from .progress import heading, say, show_epochs
from .saving import save_trained
from .trainer import SELECT_ON_VALIDATION, RankingTrainer


def as_saved(trainer: RankingTrainer) -> Any:
    """The trained model without the autocast that the trainer wraps around it: as it will be when loaded."""
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


def finished_sasrec(arguments: SASRecArguments, training: TrainingArguments, checkpoint: str | None) -> str | None:
    """The SASRec that a training which is resumed has finished; ``None`` if it is to be trained.

    Args:
        arguments: Its settings. A batch size that was not given becomes the one it had, so that the card says it.
        training: Arguments of the adapter.
        checkpoint: That of the adapter. Without one, what lies in the folder ``sasrec`` may be of an earlier training.
    """
    folder = Path(str(training.output_dir), "sasrec")
    if checkpoint is None or not (folder / "model.safetensors").is_file():
        return None
    if arguments.sasrec_batch_size is None:
        arguments.sasrec_batch_size = read_json(folder / TRAINING_NAME).get("settings", {}).get("sasrec_batch_size")
    return str(folder)


def train_sasrec(
    arguments: SASRecArguments,
    training: TrainingArguments,
    data: DataArguments,
    dataset: TrainingData,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_history: int,
    checkpoint: str | None = None,
) -> str:
    """Train the ID model, selected on validation.

    What `SASRecArguments` does not have, such as the scheduler and the precision, is as it was given for the adapter; a
    warm-up too.

    Returns:
        Its folder: ``sasrec`` in the output folder.
    """
    heading("SASRec")
    if arguments.sasrec_batch_size is None:  # set in the arguments, so that the card says it
        arguments.sasrec_batch_size = sasrec_batch_size(len(dataset.train), training.world_size)
        say(f"For data of this size: --sasrec_batch_size {arguments.sasrec_batch_size}.")
    directory = str(Path(str(training.output_dir), "sasrec"))
    checkpointing: dict[str, Any] = {  # newer transformers have a second name for it
        name: False for name in ("gradient_checkpointing", "activation_checkpointing") if hasattr(training, name)
    }
    set_seed(training.seed)
    model = SASRecModel(
        SASRecConfig(
            vocab_size=len(tokenizer),
            hidden_size=arguments.sasrec_hidden_size,
            num_hidden_layers=arguments.sasrec_layers,
            num_attention_heads=arguments.sasrec_heads,
            dropout=arguments.sasrec_dropout,
            loss=arguments.sasrec_loss,
            num_negatives=arguments.sasrec_num_negatives,
            max_history=max_history,
        )
    )
    trainer = RankingTrainer(
        model,
        dataclasses.replace(
            training,
            output_dir=directory,
            learning_rate=arguments.sasrec_learning_rate,
            num_train_epochs=arguments.sasrec_epochs,
            per_device_train_batch_size=arguments.sasrec_batch_size,
            gradient_accumulation_steps=1,
            weight_decay=arguments.sasrec_weight_decay,
            max_steps=-1,
            resume_from_checkpoint=None,
            **checkpointing,
            **{**SELECT_ON_VALIDATION, "save_total_limit": training.save_total_limit},
        ),
        tokenizer=tokenizer,
        train_dataset=dataset.train,
        eval_dataset=dataset.validation,
        exclude_seen=data.exclude_seen,
        shuffle_histories=arguments.sasrec_shuffle_histories,
        all_targets=data.all_targets,
        early_stopping_patience=arguments.sasrec_patience,
        callbacks=[CardCallback(dataset.facts, settings=card_settings(data, arguments), seeds=card_seeds(data))],
    )
    show_epochs(trainer)
    check_fits(checkpoint, model)
    check_keeps(checkpoint, trainer.args, "SASRec")
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        save_trained(as_saved(trainer), tokenizer, directory)
    trainer.accelerator.wait_for_everyone()
    return directory
