"""A callback that records a training and writes the model card. Training code uses no other module of the cards."""

import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.description import without_folders
from ..files import CURVES_NAME, EVALUATION_NAME, TRAINING_NAME, write_json
from .facts import describe_hardware, describe_training, load_facts, package_versions, training_settings
from .model_card import MODEL_NAMES, kept_licence, refresh_model_card


class CardCallback(TrainerCallback):
    """Writes ``training.json``, a picture of the learning curves and the model card to the trainer's output folder.

    The main process writes them when training ends. The picture and the figures of an earlier training are removed: the
    card shows no metrics of an earlier model. After an evaluation, `save_reports` and `refresh_model_card` add them.

    For a resumed training, the curve is complete, because checkpoints hold it. The time is that of all parts, except
    what an interrupted part did after its last log.

    Args:
        data: `describe_data` of the sequences.
        settings: Settings that are neither training arguments nor in the model's config. Paths are shortened to the
            name of the file.
        seeds: Seeds that are not in the training arguments.
        sasrec: Folder of the SASRec that the item vectors come from; the card shows its curve and time too.
        random_base: Whether the base was randomly initialised; the card says so.
        repo_id: The repo that the example on the card loads; by default the folder.
        license: Licence of the model, as the Hub names licences; by default the one on the present card is kept.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        seeds: Mapping[str, Any] | None = None,
        sasrec: str | os.PathLike[str] | None = None,
        random_base: bool = False,
        repo_id: str | None = None,
        license: str | None = None,  # noqa: A002 - as ModelCardData calls it
    ) -> None:
        self.data = data
        self.settings = dict(settings or {})
        self.seeds = dict(seeds or {})
        self.sasrec = sasrec
        self.random_base = random_base
        self.repo_id = repo_id
        self.license = license
        self._seconds_before = 0.0
        self._start = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock, and fail before training if the present card cannot be read."""
        kept_licence(str(args.output_dir))
        self._seconds_before = max((logged.get("seconds", 0.0) for logged in state.log_history), default=0.0)
        self._start = perf_counter()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the time to the log, which checkpoints hold."""
        state.log_history[-1]["seconds"] = self._seconds()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the facts and the card."""
        if not state.is_world_process_zero:
            return
        directory = Path(str(args.output_dir))
        model = kwargs["model"]
        name = MODEL_NAMES[model.config.model_type]
        beside = {} if self.sasrec is None else load_facts(self.sasrec).get("stages", {})
        settings = {**_model_settings(model.config), **training_settings(args), **self.settings}
        facts = {
            "data": None if self.data is None else dict(self.data),
            "settings": {setting: without_folders(value) for setting, value in settings.items()},
            "seeds": {"seed": args.seed, "data_seed": args.data_seed, **self.seeds},
            "stages": {**beside, name: describe_training(args, state, self._seconds())},
            "hardware": describe_hardware(args),
            "versions": package_versions(),
            "random_base": self.random_base,
        }
        write_json(directory / TRAINING_NAME, facts)
        for name_of_earlier in (CURVES_NAME, EVALUATION_NAME):
            (directory / name_of_earlier).unlink(missing_ok=True)
        refresh_model_card(
            directory, self.repo_id, license=self.license, model=model, tokenizer=kwargs["processing_class"]
        )

    def _seconds(self) -> float:
        return self._seconds_before + perf_counter() - self._start


def _model_settings(config: Any) -> dict[str, Any]:
    """The settings in a model's config that do not follow from the data or the base."""
    names = {
        "e4srec": (
            "base_model_name_or_path",
            "base_layers",
            "item_embedding_dim",
            "instruction",
            "response",
            "max_history",
            "head",
            "tuning",
            "lora",
            "train_item_embeddings",
            "projection_init",
            "item_dropout",
            "base_dropout",
        ),
        "sasrec": (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "dropout",
            "max_history",
            "loss",
            "num_negatives",
        ),
    }
    return {name: getattr(config, name) for name in names[config.model_type]}
