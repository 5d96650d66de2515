"""The callback that writes down a training, and the model card with it."""

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
    """Leaves ``training.json``, the learning curves as a picture and the model card in the trainer's output folder.

    They are written by the main process when training ends. Figures and a picture of an earlier training are removed
    then: they are those of another model. When test targets have been ranked, `save_reports` and `refresh_model_card`
    bring the figures onto the card.

    A training that was resumed has the whole curve, for the checkpoint holds it, and the time of all its parts, but for
    what an interrupted part did after its last log.

    Args:
        data: `describe_data` of the sequences.
        settings: More settings than the training arguments and the model's config tell. Paths are cut to their last
            part.
        seeds: More seeds than those of the training arguments.
        sasrec: Folder of the SASRec whose vectors the model stands on; its curve and its time stand beside.
        random_base: Say that the base was made on the spot, with random weights.
        repo_id: How the example on the card calls the repo; by default the folder.
        license: Of the model, as the Hub names licences; by default the card of the folder keeps the one it has.
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
        """Start the clock, and find out about a card that cannot be read before anything is trained."""
        kept_licence(str(args.output_dir))
        self._seconds_before = max((logged.get("seconds", 0.0) for logged in state.log_history), default=0.0)
        self._start = perf_counter()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note the time in the log, which checkpoints hold."""
        state.log_history[-1]["seconds"] = self._seconds()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the facts and the card."""
        if not state.is_world_process_zero:
            return
        directory = Path(str(args.output_dir))
        config = kwargs["model"].config
        name = MODEL_NAMES[config.model_type]
        beside = {} if self.sasrec is None else load_facts(self.sasrec).get("stages", {})
        settings = {**_model_settings(config), **training_settings(args), **self.settings}
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
        for stale in (EVALUATION_NAME, CURVES_NAME):
            (directory / stale).unlink(missing_ok=True)
        refresh_model_card(
            directory, self.repo_id, license=self.license, config=config, tokenizer=kwargs["processing_class"]
        )

    def _seconds(self) -> float:
        return self._seconds_before + perf_counter() - self._start


def _model_settings(config: Any) -> dict[str, Any]:
    """What of a model's config is chosen, and not a consequence of the data or the base."""
    names = {
        "e4srec": (
            "base_model_name_or_path",
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
