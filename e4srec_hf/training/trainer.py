"""Training: the `Trainer` of transformers, ranking the validation targets as it goes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from huggingface_hub import CommitInfo
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import AcceleratorConfig, LengthGroupedSampler

from ..data.collator import SequenceCollator
from ..data.item_tokenizer import check_vocabulary
from ..data.streaming import StreamedSequences
from ..evaluation.metrics import mean_metrics
from ..evaluation.ranking import NaNScoresError, rank_targets
from ..hub.push import push_folder
from ..modeling import E4SRecModel, SASRecModel
from ..modeling.histories import IGNORE_INDEX
from .checkpoints import RecordSettings
from .prepare import prepare_for_training
from .processes import LengthGroups, check_processes
from .rows import rows_to_train_on
from .saving import save_trained

#: What makes a `TrainingArguments` select on validation: give these, or say otherwise.
SELECT_ON_VALIDATION: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "ndcg@10",
    "greater_is_better": True,
}


class RankingTrainer(Trainer):
    """A `Trainer` for `SASRecModel` and `E4SRecModel`: trains on every target, evaluates by full ranking.

    The batch size counts users, and a step trains on all targets of its users: the loss is the mean over these. The
    paper's batch of 16 counts targets: two or three users of Amazon Beauty have as many. [`targets_a_step`] gives the
    number. Choose the learning rate for it, and cap the targets per user with ``max_targets``, so that long histories
    do not dominate a step. ``train_sampling_strategy="group_by_length"`` puts histories of similar length into a batch.

    Evaluation gives ``hr@K``, ``ndcg@K`` and ``mrr`` of the last item of each row. Ranks are computed on the device,
    batch by batch, and only ranks are gathered.

    Args:
        model: The model.
        args: As for any `Trainer`; ``per_device_train_batch_size`` counts users, each with up to ``max_history``
            targets. ``remove_unused_columns`` is switched off, because the collator reads raw item ids.
        tokenizer: The item tokenizer; checkpoints hold it too.
        train_dataset: Rows with ``item_ids``: every item is a target. A `Dataset`, or [`StreamedSequences`].
        eval_dataset: Rows with ``item_ids``: the last item is the target.
        exclude_seen: Whether evaluation hides the items of the history.
        max_targets: At most this many targets of a row per step, drawn anew each epoch; ``None`` is all of them.
        shuffle_histories: Fraction of the rows, drawn anew each epoch, whose items are put in random order: for data in
            which it matters which items go together, and not which came first. Evaluation keeps the order.
        all_targets: Whether users with more than ``max_history`` items are trained on all of them, in several rows
            (see [`cut_into_segments`]), and not only on the last ``max_history`` as in the paper.
        early_stopping_patience: Evaluations without improvement before training stops; ``None`` never stops early.
        learning_rates: Highest learning rates of parts of the model that have their own: ``score``, ``input_proj``,
            ``item_embeddings`` or ``base`` to a rate. The others have that of ``args``.
        kwargs: Other arguments of `Trainer`.

    Raises:
        ValueError: If the tokenizer is not the model's, or if the arguments ask for label smoothing, or for cutting or
            sorting streamed rows.
    """

    def __init__(
        self,
        model: E4SRecModel | SASRecModel,
        args: TrainingArguments,
        *,
        tokenizer: PreTrainedTokenizerBase,
        train_dataset: Dataset | StreamedSequences | None = None,
        eval_dataset: Dataset | None = None,
        exclude_seen: bool = True,
        max_targets: int | None = None,
        shuffle_histories: float = 0.0,
        all_targets: bool = False,
        early_stopping_patience: int | None = None,
        learning_rates: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_processes(args)
        check_vocabulary(tokenizer, model.config.vocab_size)
        rates, parts = learning_rates or {}, dict(model.named_children())
        if strangers := sorted(rates.keys() - parts.keys()):
            raise ValueError(f"learning_rates names parts that the model does not have: {', '.join(strangers)}.")
        # in one order, by which checkpoints of the optimizer know its groups
        self.learning_rates = {name: rates[name] for name in parts if name in rates}
        if args.label_smoothing_factor:
            raise ValueError("Label smoothing is not supported: leave label_smoothing_factor at 0.")
        train_dataset = rows_to_train_on(train_dataset, args, model.config.max_history, all_targets=all_targets)
        args.remove_unused_columns = False
        # batches differ in width: each process reads its own
        cast(AcceleratorConfig, args.accelerator_config).dispatch_batches = False
        prepare_for_training(model)
        collator = SequenceCollator(
            tokenizer,
            "all",
            max_history=model.config.max_history,
            first_item=model.scores_first_item,
            max_targets=max_targets,
            shuffle_histories=shuffle_histories,
            seed=args.data_seed if args.data_seed is not None else args.seed,
        )
        own = [_SetEpoch(collator), RecordSettings(self.learning_rates)]
        callbacks = [*own, *(kwargs.pop("callbacks", None) or [])]
        if early_stopping_patience is not None:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience))
        super().__init__(
            model,
            args,
            data_collator=collator,
            processing_class=tokenizer,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            compute_metrics=_ranking_metrics,
            callbacks=callbacks,
            **kwargs,
        )
        self.exclude_seen = exclude_seen
        self.evaluation_collator = SequenceCollator(tokenizer, "last")

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As `Trainer.create_optimizer`, with groups of their own for the parts that have their own learning rate."""
        optimizer = super().create_optimizer(model)
        rate_of = {
            parameter: self.learning_rates.get(name.partition(".")[0])
            for name, parameter in cast(nn.Module, self.model).named_parameters()
        }
        groups = []
        for group in optimizer.param_groups:
            for rate in dict.fromkeys((None, *self.learning_rates.values())):
                if own := [parameter for parameter in group["params"] if rate_of[parameter] == rate]:
                    groups.append({**group, "params": own, "lr": group["lr"] if rate is None else rate})
        optimizer.param_groups[:] = groups
        return optimizer

    @property
    def rows_a_step(self) -> int:
        """Rows in a batch of all processes together."""
        return self._train_batch_size * self.args.world_size

    def get_train_dataloader(self) -> DataLoader:
        """As `Trainer.get_train_dataloader`; the workers of a stream divide its steps."""
        if isinstance(self.train_dataset, StreamedSequences):
            self.train_dataset.rows_a_step = self.rows_a_step
        return super().get_train_dataloader()

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """As `Trainer.get_batch_samples`, without targets in the rows that only fill up the last step of an epoch."""
        batches = list(islice(epoch_iterator, num_batches))
        if batches and self.accelerator.gradient_state.end_of_dataloader:
            own = self._own_rows_of_last_step()
            batches[-1]["labels"][len(batches[-1]["labels"]) if own is None else own :] = IGNORE_INDEX
        return batches, self._get_num_items_in_batch(batches, device)

    def _own_rows_of_last_step(self) -> int | None:
        """How many rows this process has in the last step of an epoch; after them come copies. ``None`` is all."""
        left = len(cast(Dataset, self.train_dataset)) % self.rows_a_step
        evened = isinstance(self.train_dataset, StreamedSequences) or not self.args.dataloader_drop_last
        if not left or not evened or self.args.train_sampling_strategy == "batch_rebalance":
            return None
        return max(left - self.args.process_index * self._train_batch_size, 0)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        """As `Trainer._get_train_sampler`; histories of similar length are put together alike in all processes."""
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            rows = self.rows_a_step * self.args.gradient_accumulation_steps
            return LengthGroups(rows, sampler.lengths, seed=cast(SequenceCollator, self.data_collator).seed)
        return sampler

    def targets_a_step(self) -> float:
        """How many targets an optimizer step has on average, over all processes and accumulated batches.

        Streamed rows are read once for that.
        """
        collator, rows = cast(SequenceCollator, self.data_collator), cast(Dataset, self.train_dataset)
        most = min(collator.max_targets or collator.max_history, collator.max_history)
        lengths = [len(items) - (not collator.first_item) for items in rows["item_ids"]]
        per_user = sum(max(min(length, most), 0) for length in lengths) / max(len(lengths), 1)
        return per_user * self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Record the repo's name only: [`push_to_hub`] creates the repo."""
        self.hub_model_id = self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name  # type: ignore[assignment]
        self.push_in_progress = None

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push nothing: a checkpoint has no figures yet, and its optimizer is pickled."""

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | None:
        """Save model and item tokenizer to ``output_dir`` and push them as one commit, with the card in that folder.

        ``--push_to_hub`` pushes only here; ``hub_strategy`` and ``blocking`` have no effect.
        """
        if self.hub_model_id is None:
            self.init_hf_repo()
        info = None
        if self.is_world_process_zero():
            directory = str(self.args.output_dir)
            model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            save_trained(model, cast(PreTrainedTokenizerBase, self.processing_class), directory)
            info = push_folder(
                directory,
                str(self.hub_model_id),
                commit_message=commit_message,
                private=self.args.hub_private_repo if private is None else private,
                token=token or self.args.hub_token,
                revision=revision or self.args.hub_revision,
            )
        self.accelerator.wait_for_everyone()
        return info

    @contextmanager
    def _last_item_is_target(self) -> Iterator[None]:
        training_collator = self.data_collator
        self.data_collator = self.evaluation_collator
        try:
            yield
        finally:
            self.data_collator = training_collator

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """As `Trainer.get_eval_dataloader`, with the last item of each row as its target."""
        with self._last_item_is_target():
            return super().get_eval_dataloader(*args, **kwargs)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler | None:
        """In order, also where training batches are grouped by length."""
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """As `Trainer.get_test_dataloader`, with the last item of each row as its target."""
        with self._last_item_is_target():
            return super().get_test_dataloader(*args, **kwargs)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, Tensor, Tensor]:
        """The ranks of a batch as its logits, and its targets as labels. If scores are NaN, all targets are misses."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.accelerator.autocast():  # as the trainer wraps around forward
            try:
                ranks, targets = rank_targets(
                    self.accelerator.unwrap_model(model), inputs, exclude_seen=self.exclude_seen
                )
            except NaNScoresError:  # an earlier epoch may be good: it is kept, and the training ends as others do
                targets = inputs["labels"][:, -1]
                ranks = torch.full(targets.shape, torch.inf, device=targets.device)
        return None, ranks, targets


class _SetEpoch(TrainerCallback):
    """Passes the epoch to the collator, whose random draws depend on it."""

    def __init__(self, collator: SequenceCollator) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.collator.set_epoch(int(state.epoch or 0))


def _ranking_metrics(prediction: EvalPrediction) -> dict[str, float]:
    ranks, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    return mean_metrics(ranks[targets > 0])
