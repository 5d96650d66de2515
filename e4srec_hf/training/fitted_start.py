"""The start of an adapter: fitted by one process for all of them, or that of the checkpoint that is resumed."""

from itertools import islice
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast, broadcast_object_list
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainingArguments

from ..data.item_vectors import is_sasrec
from ..data.opening import TrainingData
from ..data.streaming import StreamedSequences
from ..modeling import SASRecModel
from .arguments import ModelArguments
from .checkpoints import recorded_rates
from .progress import say
from .start import rates_of_parts, start_from_sasrec

#: Settings of the learning rates of parts of the model, by the flag's name.
RATES = {"head_learning_rate": "score", "projection_learning_rate": "input_proj"}
#: Rows of a stream that a start is fitted to, at most.
MOST_ROWS = 10_000


def fit_start(
    model: Any,
    arguments: ModelArguments,
    training: TrainingArguments,
    item_vectors: str,
    dataset: TrainingData,
    tokenizer: PreTrainedTokenizerBase,
    *,
    checkpoint: str | None = None,
) -> dict[str, float]:
    """Fit a fresh model to the SASRec of its item vectors, if that was asked for.

    The main process fits, and the others take its weights. A training that is resumed has the weights of its
    checkpoint, and keeps the learning rates that followed from those of the start.

    Args:
        model: The model.
        arguments: Settings of the adapter.
        training: Its device and seed.
        item_vectors: Where the item vectors are from.
        dataset: What it is trained on.
        tokenizer: The item tokenizer.
        checkpoint: The checkpoint that the training goes on from.

    Returns:
        The learning rates of the parts that have their own, as `RankingTrainer` takes them.

    Raises:
        ValueError: If another learning rate is asked for than that of the training that is resumed.
    """
    if arguments.projection_init == "fitted" and not is_sasrec(item_vectors):
        arguments.projection_init = "orthogonal"  # as the card is to say
        say(f"{item_vectors} is no SASRec that a head could be fitted to: the head inverts the projection.")
    given = {part: rate for flag, part in RATES.items() if (rate := getattr(arguments, flag)) is not None}
    rates = None if checkpoint is None else recorded_rates(checkpoint)
    if rates is None:
        fitted = arguments.projection_init == "fitted"
        rates = (_fit_to_sasrec(model, training, item_vectors, dataset, tokenizer) if fitted else {}) | given
    for flag, part in RATES.items():
        if part in given and given[part] != rates.get(part):
            raise ValueError(
                f"--{flag} {given[part]:g}: the training that is resumed keeps its own, "
                f"{rates.get(part, training.learning_rate):g}. Leave the flag out."
            )
    if rates:
        said = [f"--{flag} {rates[part]:.3g}" for flag, part in RATES.items() if part in rates]
        say(f"Learning rates: {', '.join([f'--learning_rate {training.learning_rate:g}', *said])}.")
    return rates


def _fit_to_sasrec(
    model: Any, training: TrainingArguments, name: str, dataset: TrainingData, tokenizer: PreTrainedTokenizerBase
) -> dict[str, float]:
    if not getattr(model, "is_quantized", False):
        model.to(training.device)
    rates: list[dict[str, float]] = [{}]
    if PartialState().is_main_process:
        rows = dataset.train
        if isinstance(rows, StreamedSequences):
            rows = Dataset.from_list(list(islice(rows, MOST_ROWS)))
        sasrec = SASRecModel.from_pretrained(name).to(training.device)
        own = model.item_embeddings.weight.detach()[:, : sasrec.config.hidden_size]  # in the order of this tokenizer
        sasrec.item_embeddings.weight = nn.Parameter(own, requires_grad=False)
        fit = start_from_sasrec(model, sasrec, rows, tokenizer, validation=dataset.validation, seed=training.seed)
        say(f"The head starts from SASRec: the states of the base explain {fit.r2_held_out:.0%} of its states.")
        rates = [rates_of_parts(model, fit)]
    broadcast_object_list(rates)
    broadcast([parameter.data for part in (model.input_proj, model.score) for parameter in part.parameters()])
    return rates[0]
