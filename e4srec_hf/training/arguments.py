"""The settings of a training: dataclasses, read from defaults, a YAML file and flags, in that order."""

import argparse
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser, TrainingArguments

from ..errors import UsageError
from ..modeling.configuration_e4srec import PAPER_INSTRUCTION, PAPER_LORA
from .argument_checks import check_arguments, parse_or_blame
from .config_file import as_flags, read_config, unknown_setting
from .processes import check_processes
from .trainer import SELECT_ON_VALIDATION

_RECIPES = Path(__file__).parent / "recipes"
DEMO_RECIPE = _RECIPES / "demo.yaml"
#: Highest learning rate of LoRA; docs/pretrained.md says how it was chosen.
LEARNING_RATE = 3e-3
#: The same for a base that is trained whole, as in the recipes: docs/quality.md.
LEARNING_RATE_OF_A_WHOLE_BASE = 5e-4
#: With more items a head with a row for each would be large beside the rest of the adapter.
MOST_ITEMS_OF_A_LINEAR_HEAD = 50_000
#: Settings of the adapter that follow from the data's size where they are not given.
FROM_THE_DATA = ("num_train_epochs", "per_device_train_batch_size", "warmup_steps")


class _Parser(HfArgumentParser):
    """Raises what it finds, where `argparse` prints all flags and leaves."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


@dataclass
class DataArguments:
    """The sequences."""

    dataset: str = field(
        default="demo",
        metadata={
            "help": "A folder that e4srec prepare wrote, a Hub data set, a text file (a line a user: user item ...), a "
            'Parquet or JSON lines file, a folder saved by datasets, or "demo".'
        },
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read training rows from Parquet as training goes: for prepared data larger than memory."},
    )
    user_column: str = field(default="user_id", metadata={"help": "Column of users, for a datasets table."})
    items_column: str = field(default="item_ids", metadata={"help": "Column of item lists, for a datasets table."})
    negatives: str | None = field(
        default=None,
        metadata={
            "help": "Also rank test targets among sampled negatives: a file (a line a user: user negative ...), or how "
            "many to draw."
        },
    )
    negatives_seed: int = field(default=0, metadata={"help": "Seed of drawn negatives."})
    exclude_seen: bool = field(default=True, metadata={"help": "Hide the items of the history when ranking."})
    rank_test: bool = field(
        default=True,
        metadata={"help": "Rank the test targets at the end. A search for settings leaves them alone: false."},
    )
    all_targets: bool = field(
        default=False,
        metadata={
            "help": "Train SASRec and the adapter on all items of users with more than max_history, cut into segments, "
            "and not only on the last max_history as the paper does."
        },
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Remove the checkpoints that an earlier run left in the output folder."}
    )


@dataclass
class ModelArguments:
    """The adapter and its base."""

    model: str = field(
        default="e4srec",
        metadata={"help": "What to train: the adapter, or SASRec alone.", "choices": ["e4srec", "sasrec"]},
    )
    base_model: str | None = field(
        default=None,
        metadata={
            "help": "Hub id, folder or GGUF file of the base. Without it a small Llama with random weights is made."
        },
    )
    base_layers: int | None = field(
        default=None, metadata={"help": "Read only the first so many layers of the base. By default all."}
    )
    made_base_hidden_size: int = field(default=128, metadata={"help": "Width of the base that is made."})
    made_base_layers: int = field(default=2, metadata={"help": "Layers of the base that is made."})
    made_base_heads: int = field(default=2, metadata={"help": "Attention heads of the base that is made."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Quantize the base to 4 bits (bitsandbytes, NF4)."})
    load_in_8bit: bool = field(
        default=False, metadata={"help": "Quantize the base to 8 bits (bitsandbytes, LLM.int8)."}
    )
    item_embeddings: str | None = field(
        default=None,
        metadata={
            "help": "Item vectors: a SASRec folder or Hub id, a .safetensors or a .npy. Without it SASRec is trained."
        },
    )
    item_text: bool = field(
        default=False,
        metadata={
            "help": "Put vectors of the items' titles, which the base reads, beside the item vectors. The data needs "
            "titles."
        },
    )
    train_item_embeddings: bool = field(default=False, metadata={"help": "Train the item vectors too."})
    projection_init: str = field(
        default="fitted",
        metadata={
            "help": "How the input projection and the head start. orthogonal: the head inverts the projection. fitted: "
            "lifted vectors are as long as those of text, and the head says what SASRec says, as far as the base's "
            "states tell it.",
            "choices": ["fitted", "orthogonal", "random"],
        },
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Highest learning rate of the head. By default one that follows from the base's states where "
            "--projection_init is fitted, or else --learning_rate."
        },
    )
    projection_learning_rate: float | None = field(
        default=None,
        metadata={"help": "As --head_learning_rate, for the input projection: a thousandth of its weights' size."},
    )
    item_dropout: float = field(default=0.2, metadata={"help": "Dropout on the item vectors that the base reads."})
    base_dropout: float = field(default=0.2, metadata={"help": "Dropout on what each layer of the base adds."})
    instruction: str = field(default=PAPER_INSTRUCTION, metadata={"help": "Prompt text before the items."})
    response: str = field(
        default="", metadata={"help": "Prompt text after the items. Without one, the last item's own state is read."}
    )
    max_history: int = field(default=50, metadata={"help": "Items before a target that the models see."})
    head: str | None = field(
        default=None,
        metadata={
            "help": "Scoring head: a row for each item, or the item vectors. By default linear up to "
            f"{MOST_ITEMS_OF_A_LINEAR_HEAD:,} items and tied above.",
            "choices": ["linear", "tied"],
        },
    )
    tuning: str | None = field(
        default=None,
        metadata={
            "help": "What is trained of the base. By default lora, and full where the base is made: its random weights "
            "are not worth keeping.",
            "choices": ["lora", "full"],
        },
    )
    lora_r: int = field(default=PAPER_LORA["r"], metadata={"help": "LoRA rank."})
    lora_alpha: int = field(default=PAPER_LORA["lora_alpha"], metadata={"help": "LoRA alpha."})
    lora_dropout: float = field(default=PAPER_LORA["lora_dropout"], metadata={"help": "LoRA dropout."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": "Modules with LoRA. By default gate_proj, up_proj and down_proj, or else all linear layers."},
    )
    max_targets: int | None = field(
        default=None,
        metadata={
            "help": "At most so many targets of a user a step of the adapter, drawn anew each epoch. By default all."
        },
    )
    shuffle_histories: float = field(
        default=0.0,
        metadata={
            "help": "Share of the histories, drawn anew each epoch, that are trained on in random order. Helps "
            "where it matters which items go together, and little which came first."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Evaluations without improvement before training stops."}
    )
    from_the_data: tuple[str, ...] = field(init=False, default=())  # those of `FROM_THE_DATA` that were not given


@dataclass
class SASRecArguments:
    """The ID model that makes the item vectors."""

    sasrec_hidden_size: int = field(default=64, metadata={"help": "Width of the item vectors."})
    sasrec_layers: int = field(default=2, metadata={"help": "Blocks."})
    sasrec_heads: int = field(default=1, metadata={"help": "Attention heads."})
    sasrec_dropout: float = field(default=0.2, metadata={"help": "Dropout."})
    sasrec_loss: str = field(default="ce", metadata={"help": "Loss.", "choices": ["ce", "sampled_softmax", "bce"]})
    sasrec_num_negatives: int = field(default=1, metadata={"help": "Negatives a target, for a loss that samples them."})
    sasrec_learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate."})
    sasrec_epochs: float = field(default=25, metadata={"help": "Epochs at most."})
    sasrec_batch_size: int | None = field(
        default=None, metadata={"help": "Users a batch. By default it follows from the data's size."}
    )
    sasrec_weight_decay: float = field(default=0.0, metadata={"help": "Weight decay."})
    sasrec_shuffle_histories: float = field(default=0.0, metadata={"help": "As --shuffle_histories, for SASRec."})
    sasrec_patience: int | None = field(default=3, metadata={"help": "Epochs without improvement before it stops."})


def parse_arguments(
    argv: list[str], prog: str | None = None
) -> tuple[DataArguments, ModelArguments, SASRecArguments, TrainingArguments]:
    """Read the settings of a training: defaults, then the YAML file of ``--config``, then flags.

    Without ``--config`` and ``--dataset`` it is the demo.

    Args:
        argv: The flags; ``--top-k`` and ``--top_k`` are the same.
        prog: What the help calls the program.

    Raises:
        UsageError: If a setting is unknown or has an impossible value, or the file cannot be read.
        OSError: If the output folder cannot be written.
    """
    parser = make_parser(prog)
    config_parser = _Parser(add_help=False, allow_abbrev=False)
    config_parser.add_argument("--config")
    config_parser.add_argument("--dataset")
    config, flags = config_parser.parse_known_args(argv)
    if config.dataset is not None:
        flags.append(f"--dataset={config.dataset}")
    elif config.config is None:
        config.config = DEMO_RECIPE
    if config.config is not None:
        flags = [*as_flags(read_config(config.config, known_settings(parser))), *flags]  # the later one wins
    parse = partial(parser.parse_args_into_dataclasses, look_for_args_file=False, return_remaining_strings=True)
    data, model, sasrec, training, _, unknown = parse_or_blame(parse, flags)
    if unknown:
        raise UsageError(
            "; ".join(unknown_setting(flag, known_settings(parser)) for flag in unknown if flag.startswith("--"))
            or f"what is {' '.join(unknown)} meant for? Only flags are taken."
        )
    given = {flag.partition("=")[0].lstrip("-").replace("-", "_") for flag in flags if flag.startswith("--")}
    if model.tuning is None:
        of_lora = any(name.startswith(("lora_", "load_in_")) for name in given)
        model.tuning = "full" if model.base_model is None and not of_lora else "lora"
    if model.tuning == "full" and "learning_rate" not in given:
        training.learning_rate = LEARNING_RATE_OF_A_WHOLE_BASE
    model.from_the_data = tuple(name for name in FROM_THE_DATA if name not in given)
    check_arguments(data, model, sasrec, training)
    check_processes(training)
    return data, model, sasrec, training


def make_parser(prog: str | None = None) -> HfArgumentParser:
    """The parser of all settings, with the defaults of this package."""
    parser = _Parser([DataArguments, ModelArguments, SASRecArguments, TrainingArguments], prog=prog, allow_abbrev=False)  # type: ignore[list-item]
    parser.description = "Train E4SRec on item sequences. Without flags it is the demo."
    parser.add_argument("--config", help="A YAML file of settings, named like the flags; flags win.")
    parser.set_defaults(
        output_dir="outputs/e4srec",
        learning_rate=LEARNING_RATE,
        per_device_eval_batch_size=128,
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # a loss that is not a number is to be seen
        dataloader_pin_memory=torch.cuda.is_available(),
        lr_scheduler_type="cosine",
        restore_callback_states_from_checkpoint=True,  # patience goes on where it was
        **SELECT_ON_VALIDATION,
    )
    _complete_help(parser)
    return parser


def _complete_help(parser: argparse.ArgumentParser) -> None:
    """Say what is chosen for the user, and turn round what is said of each ``--no_…``."""
    actions = {action.dest: action for action in parser._actions if not action.option_strings[0].startswith("--no_")}
    actions["learning_rate"].help = (
        f"Highest learning rate of LoRA. With --tuning full it is that of the base, by default "
        f"{LEARNING_RATE_OF_A_WHOLE_BASE:g}."
    )
    for name in FROM_THE_DATA:
        actions[name].help = f"{(actions[name].help or name).rstrip('.')}. By default it follows from the data's size."
    for action in parser._actions:
        if action.option_strings[0].startswith("--no_"):
            action.help = f"The same as --{action.dest} false."


def known_settings(parser: argparse.ArgumentParser) -> set[str]:
    """The names of all settings."""
    return {action.dest for action in parser._actions} - {"help", "config"}


def card_settings(*parts: Any) -> dict[str, Any]:
    """The settings that a model card tells, of those that the model's config does not tell it already."""
    left_out = (
        "from_the_data",
        "overwrite",
        "rank_test",
        "model",
        "base_model",
        "user_column",
        "items_column",
        "negatives_seed",
    )
    settings = {name: value for part in parts for name, value in vars(part).items()}
    return {name: value for name, value in settings.items() if name not in left_out and not name.startswith("lora_")}


def card_seeds(data: DataArguments) -> dict[str, Any]:
    """The seeds that a model card tells besides those of the training arguments."""
    return {"negatives_seed": data.negatives_seed} if data.negatives is not None else {}
