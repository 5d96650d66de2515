"""Settings that no training can use, found before anything is done, each by the name of its flag."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from ..errors import UsageError, is_mistake, one_line
from ..evaluation.metrics import user_metrics
from ..paths import check_writable


@dataclass(frozen=True)
class Bounds:
    """The numbers that a setting may have, from ``low`` to ``high``; NaN is none of them."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value or (self.low == value and not self.above)) and (
            value < self.high or (value == self.high and not (self.below or math.isinf(value)))
        )

    def __str__(self) -> str:
        low = f"above {self.low}" if self.above else f"at least {self.low}"
        if self.high == math.inf:
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.high}"


COUNT, POSITIVE, NOT_NEGATIVE = Bounds(1), Bounds(0, above=True), Bounds(0)
SHARE, PROBABILITY, SEED = Bounds(0, 1), Bounds(0, 1, below=True), Bounds(0, 2**32 - 1)
EPOCHS = Bounds(0, 1e6, above=True, below=True)

#: Setting to its bounds; ``None`` is always allowed.
BOUNDS: dict[str, Bounds] = {
    **dict.fromkeys(("made_base_hidden_size", "made_base_heads", "max_history"), COUNT),
    "made_base_layers": NOT_NEGATIVE,  # none: the projection goes straight into the head
    **dict.fromkeys(("base_layers", "lora_r", "lora_alpha", "max_targets", "early_stopping_patience"), COUNT),
    **dict.fromkeys(("sasrec_hidden_size", "sasrec_layers", "sasrec_heads", "sasrec_num_negatives"), COUNT),
    **dict.fromkeys(("sasrec_batch_size", "sasrec_patience", "gradient_accumulation_steps"), COUNT),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size", "eval_accumulation_steps"), COUNT),
    **dict.fromkeys(("learning_rate", "head_learning_rate", "projection_learning_rate"), POSITIVE),
    **dict.fromkeys(("sasrec_learning_rate", "adam_epsilon"), POSITIVE),
    **dict.fromkeys(("logging_steps", "eval_steps", "save_steps"), POSITIVE),
    **dict.fromkeys(("weight_decay", "sasrec_weight_decay", "max_grad_norm", "warmup_steps"), NOT_NEGATIVE),
    **dict.fromkeys(("eval_delay", "dataloader_num_workers", "neftune_noise_alpha"), NOT_NEGATIVE),
    **dict.fromkeys(("item_dropout", "base_dropout", "lora_dropout", "sasrec_dropout"), PROBABILITY),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), PROBABILITY),
    **dict.fromkeys(("shuffle_histories", "sasrec_shuffle_histories"), SHARE),
    **dict.fromkeys(("seed", "data_seed", "negatives_seed"), SEED),
    **dict.fromkeys(("num_train_epochs", "sasrec_epochs"), EPOCHS),
    "label_smoothing_factor": Bounds(0, 0),
}
#: Settings that name something: without a name, they are to be left out.
NAMES = ("dataset", "output_dir", "base_model", "item_embeddings", "negatives", "user_column", "items_column")


def check_arguments(data: Any, model: Any, sasrec: Any, training: TrainingArguments) -> None:
    """Find settings that no training can use.

    Raises:
        UsageError: If there is one; it is named as the flag.
        OSError: If the output folder cannot be written.
    """
    settings = {**vars(training), **vars(data), **vars(model), **vars(sasrec)}
    for name, bounds in BOUNDS.items():
        value = settings[name]
        if value is not None and value not in bounds:
            raise UsageError(f"--{name} must be {bounds}, not {value}")
    if training.max_steps != -1 and training.max_steps not in COUNT:
        raise UsageError(f"--max_steps must be {COUNT}, or -1 for whole epochs, not {training.max_steps}")
    for name in NAMES:
        if settings[name] is not None and not str(settings[name]).strip():
            raise UsageError(f"--{name} is empty: name something, or leave it out")
    _check_model(model, settings)
    metrics, chosen = list(user_metrics([1])), str(training.metric_for_best_model).removeprefix("eval_")
    if training.load_best_model_at_end and chosen not in metrics:
        raise UsageError(f"--metric_for_best_model must be one of {', '.join(metrics)}; not {chosen}")
    _check_optimizer(training)
    _try("report_to", training.report_to, _start_reporting, training)
    output = Path(str(training.output_dir))
    for folder in (output, output / "sasrec", output / "base"):
        check_writable(folder, "--output_dir")


def _check_model(model: Any, settings: dict[str, Any]) -> None:
    if model.load_in_4bit and model.load_in_8bit:
        raise UsageError("--load_in_4bit and --load_in_8bit exclude each other: leave one of them out.")
    if model.model == "sasrec" and model.item_embeddings is not None:
        raise UsageError("--model sasrec trains item vectors: leave out --item_embeddings.")
    if model.model == "sasrec" and model.item_text:
        raise UsageError("--item_text true is for --model e4srec: SASRec has no base that reads titles.")
    _check_heads("sasrec_hidden_size", "sasrec_heads", settings)
    if model.base_model is None and model.model == "e4srec":
        _check_heads("made_base_hidden_size", "made_base_heads", settings, even=True)
        if model.made_base_layers == 0 and (model.tuning == "lora" or model.base_dropout):
            raise UsageError(
                "--made_base_layers 0 leaves no layer for LoRA or dropout: add --tuning full --base_dropout 0"
            )
        if model.made_base_layers == 0 and model.item_text:
            raise UsageError("--made_base_layers 0 leaves no layer that reads titles: leave out --item_text true")


def _check_heads(width: str, heads: str, settings: dict[str, Any], *, even: bool = False) -> None:
    each, rest = divmod(settings[width], settings[heads])
    if rest or (even and each % 2):
        kind = "an even multiple" if even else "a multiple"
        raise UsageError(f"--{width} must be {kind} of --{heads}, but {settings[width]} is none of {settings[heads]}")


def _check_optimizer(training: TrainingArguments) -> None:
    """Make the optimizer and the scheduler once, for a single weight."""
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimizer: Any = torch.optim.SGD(weights)
    if training.optim_target_modules is None:  # with it, an optimizer asks for the model itself
        made, arguments = _try("optim", training.optim, Trainer.get_optimizer_cls_and_kwargs, training)
        if "model" not in arguments:
            optimizer = _try("optim", training.optim, made, weights, **arguments)
    kwargs = training.lr_scheduler_kwargs
    name = "lr_scheduler_kwargs" if kwargs else "lr_scheduler_type"
    given = kwargs or training.lr_scheduler_type
    _try(name, given, get_scheduler, training.lr_scheduler_type, optimizer, 1, 10, scheduler_specific_kwargs=kwargs)


def _start_reporting(training: TrainingArguments) -> None:
    for callback in get_reporting_integration_callbacks(training.report_to):
        callback()


def _try(name: str, value: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call of a library gives that takes a setting; whatever it raises is about that setting."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        reason = one_line(error) if is_mistake(error) else f"{type(error).__name__}: {one_line(error)}"
        raise UsageError(f"--{name} {getattr(value, 'value', value)}: {reason}") from error


def parse_or_blame(parse: Callable[[list[str]], Any], flags: Sequence[str]) -> Any:
    """Parse flags; where a library raises an error about one of them, name the first flag without which all is well.

    Raises:
        UsageError: If the flags cannot be parsed.
    """
    try:
        return parse(list(flags))
    except UsageError:
        raise
    except Exception as error:
        starts = [place for place, word in enumerate(flags) if word.startswith("--")]
        for start, end in zip(starts, [*starts[1:], len(flags)], strict=True):
            try:
                parse([*flags[:start], *flags[end:]])
            except Exception:  # noqa: S112 - then it was not this one
                continue
            _try(flags[start].removeprefix("--").partition("=")[0], " ".join(flags[start + 1 : end]), _raise, error)
        raise UsageError(one_line(error)) from error


def _raise(error: Exception) -> None:
    raise error
