"""Train E4SRec on item sequences: SASRec item vectors, then the adapter, then full ranking of the test targets.

    python examples/train.py                                                     # the demo
    accelerate launch examples/train.py --config examples/configs/beauty.yaml --dataset Beauty.txt

Settings come from `--config` (YAML) and from flags, which win. Everything is selected on validation; test targets are
ranked once, at the end.
"""

import argparse
import dataclasses
import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from e4srec_hf.modeling.configuration_e4srec import PAPER_INSTRUCTION, PAPER_LORA, PAPER_RESPONSE
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    HfArgumentParser,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel
from e4srec_hf.cards import write_model_card
from e4srec_hf.data import (
    build_item_tokenizer,
    catalogue,
    draw_negatives,
    leave_one_out,
    load_sequences,
    make_demo_world,
    read_negatives,
    tokenize_histories,
    with_candidates,
)
from e4srec_hf.evaluation import RankingReport, evaluate_ranking, results_table
from e4srec_hf.item_embeddings import is_sasrec, load_item_embeddings
from e4srec_hf.popularity import PopularityModel
from e4srec_hf.tiny_base import make_tiny_base
from e4srec_hf.training import SELECT_ON_VALIDATION, RankingTrainer, save_trained

DEMO_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
logger = logging.getLogger("train")


@dataclass
class DataArguments:
    """The sequences."""

    dataset: str = field(
        default="demo",
        metadata={
            "help": "A text file (a line a user: user item item …), a Parquet or JSON lines file, a folder saved by "
            'datasets, a Hub data set, or "demo".'
        },
    )
    user_column: str = field(default="user_id", metadata={"help": "Column of users, for a datasets table."})
    items_column: str = field(default="item_ids", metadata={"help": "Column of item lists, for a datasets table."})
    negatives: str | None = field(
        default=None,
        metadata={
            "help": "Also rank test targets among sampled negatives: a file (a line a user: user negative …), or how "
            "many to draw."
        },
    )
    exclude_seen: bool = field(default=True, metadata={"help": "Hide the items of the history when ranking."})


@dataclass
class ModelArguments:
    """The adapter and its base."""

    base_model: str | None = field(
        default=None,
        metadata={"help": "Hub id or folder of the base. Without it a small Llama with random weights is made."},
    )
    made_base_hidden_size: int = field(default=128, metadata={"help": "Width of the base that is made."})
    made_base_layers: int = field(default=2, metadata={"help": "Layers of the base that is made."})
    made_base_heads: int = field(default=2, metadata={"help": "Attention heads of the base that is made."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Quantize the base to 4 bits (bitsandbytes, NF4)."})
    item_embeddings: str | None = field(
        default=None,
        metadata={
            "help": "Item vectors: a SASRec folder or Hub id, a .safetensors or a .npy. Without it SASRec is trained."
        },
    )
    train_item_embeddings: bool = field(default=False, metadata={"help": "Train the item vectors too."})
    instruction: str = field(default=PAPER_INSTRUCTION, metadata={"help": "Prompt text before the items."})
    response: str = field(default=PAPER_RESPONSE, metadata={"help": "Prompt text behind the items."})
    max_history: int = field(default=50, metadata={"help": "Items before a target that the models see."})
    head: str = field(default="tied", metadata={"help": "Scoring head.", "choices": ["linear", "tied"]})
    tuning: str = field(default="lora", metadata={"help": "What is trained of the base.", "choices": ["lora", "full"]})
    lora_r: int = field(default=PAPER_LORA["r"], metadata={"help": "LoRA rank."})
    lora_alpha: int = field(default=PAPER_LORA["lora_alpha"], metadata={"help": "LoRA alpha."})
    lora_dropout: float = field(default=PAPER_LORA["lora_dropout"], metadata={"help": "LoRA dropout."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": "Modules with LoRA. By default gate_proj, up_proj and down_proj, or else all linear layers."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Evaluations without improvement before training stops."}
    )


@dataclass
class SASRecArguments:
    """The ID model that makes the item vectors."""

    sasrec_hidden_size: int = field(default=64, metadata={"help": "Width of the item vectors."})
    sasrec_layers: int = field(default=2, metadata={"help": "Blocks."})
    sasrec_heads: int = field(default=1, metadata={"help": "Attention heads."})
    sasrec_dropout: float = field(default=0.2, metadata={"help": "Dropout."})
    sasrec_loss: str = field(default="ce", metadata={"help": "Loss.", "choices": ["ce", "bce"]})
    sasrec_learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate."})
    sasrec_epochs: float = field(default=25, metadata={"help": "Epochs at most."})
    sasrec_batch_size: int = field(default=128, metadata={"help": "Users a batch."})
    sasrec_weight_decay: float = field(default=0.0, metadata={"help": "Weight decay."})
    sasrec_patience: int | None = field(default=3, metadata={"help": "Epochs without improvement before it stops."})


def parse_arguments(
    argv: list[str],
) -> tuple[DataArguments, ModelArguments, SASRecArguments, TrainingArguments]:
    """Defaults, then the YAML file, then flags."""
    parser = HfArgumentParser([DataArguments, ModelArguments, SASRecArguments, TrainingArguments])  # type: ignore[list-item]
    parser.add_argument("--config", help="A YAML file of settings, named like the flags; flags win.")
    parser.set_defaults(
        output_dir="outputs/e4srec",
        per_device_eval_batch_size=128,
        logging_strategy="epoch",
        dataloader_pin_memory=torch.cuda.is_available(),
        lr_scheduler_type="cosine",
        **SELECT_ON_VALIDATION,
    )
    config_parser = argparse.ArgumentParser(add_help=False)
    config_parser.add_argument("--config")
    config_parser.add_argument("--dataset")
    config, flags = config_parser.parse_known_args(argv)
    if config.dataset is not None:
        flags += ["--dataset", config.dataset]
    elif config.config is None:
        config.config = DEMO_CONFIG
    if config.config is not None:
        settings = yaml.safe_load(Path(config.config).read_text(encoding="utf-8")) or {}
        known = {action.dest for action in parser._actions}
        if unknown := sorted(set(settings) - known):
            parser.error(f"{config.config} has settings that are no flags: {', '.join(unknown)}")
        parser.set_defaults(**settings)
    data, model, sasrec, training, _ = parser.parse_args_into_dataclasses(flags, look_for_args_file=False)
    return data, model, sasrec, training


def train_sasrec(
    arguments: SASRecArguments,
    training: TrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    splits: DatasetDict,
    max_history: int,
    exclude_seen: bool,
) -> str:
    """Train the ID model, selected on validation, and keep it in the folder ``sasrec`` of the output."""
    directory = str(Path(str(training.output_dir), "sasrec"))
    set_seed(training.seed)
    model = SASRecModel(
        SASRecConfig(
            vocab_size=len(tokenizer),
            hidden_size=arguments.sasrec_hidden_size,
            num_hidden_layers=arguments.sasrec_layers,
            num_attention_heads=arguments.sasrec_heads,
            dropout=arguments.sasrec_dropout,
            loss=arguments.sasrec_loss,
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
            gradient_checkpointing=False,
            weight_decay=arguments.sasrec_weight_decay,
            max_steps=-1,
            push_to_hub=False,
        ),
        tokenizer=tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        exclude_seen=exclude_seen,
        early_stopping_patience=arguments.sasrec_patience,
    )
    trainer.train()
    if trainer.is_world_process_zero():
        save_trained(model, tokenizer, directory)
    trainer.accelerator.wait_for_everyone()
    return directory


def make_model(arguments: ModelArguments, training: TrainingArguments, item_embeddings: torch.Tensor) -> E4SRecModel:
    """A fresh adapter on the base that was asked for, or on a small one made here."""
    state = PartialState()
    base_model = arguments.base_model
    if base_model is None:
        base_model = str(Path(str(training.output_dir), "base"))
        if state.is_main_process:
            make_tiny_base(
                base_model,
                hidden_size=arguments.made_base_hidden_size,
                num_hidden_layers=arguments.made_base_layers,
                num_attention_heads=arguments.made_base_heads,
                texts=(arguments.instruction, arguments.response),
                seed=training.seed,
            )
        state.wait_for_everyone()
        logger.warning(f"No --base_model: a small Llama with random weights stands in for one, in {base_model}.")
    lora: dict[str, Any] = {
        "r": arguments.lora_r,
        "lora_alpha": arguments.lora_alpha,
        "lora_dropout": arguments.lora_dropout,
    }
    if arguments.lora_target_modules is not None:
        lora["target_modules"] = arguments.lora_target_modules
    placement: dict[str, Any] = {}
    if arguments.load_in_4bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
        placement = {"quantization_config": quantization, "device_map": {"": state.device}}
    set_seed(training.seed)
    return E4SRecModel.from_base(
        base_model,
        item_embeddings,
        instruction=arguments.instruction,
        response=arguments.response,
        max_history=arguments.max_history,
        lora=lora,
        head=arguments.head,
        tuning=arguments.tuning,
        train_item_embeddings=arguments.train_item_embeddings,
        **placement,
    )


def test_sets(data: DataArguments, splits: DatasetDict, items: list[str], seed: int) -> dict[str, Dataset]:
    """The test split for full ranking and, where asked for, with sampled negatives."""
    sets = {"full": splits["test"]}
    if data.negatives is not None:
        negatives = (
            draw_negatives(splits["test"], items, count=int(data.negatives), seed=seed)
            if data.negatives.isdecimal()
            else read_negatives(data.negatives)
        )
        sets["sampled"] = with_candidates(splits["test"], negatives)
    return sets


def sample_recommendations(
    model: E4SRecModel, tokenizer: PreTrainedTokenizerBase, user: dict[str, Any], titles: dict[str, str]
) -> dict[str, Any]:
    """Print ten recommendations for one user, and return them with the history they follow."""
    batch = tokenize_histories(tokenizer, [user["item_ids"]])
    best = model.recommend(**batch.to(model.item_embeddings.weight.device))
    items = tokenizer.convert_ids_to_tokens(best.item_ids[0].tolist())
    last = user["item_ids"][-1]
    print(f"\nTen recommendations for {user['user_id']}, who last had {titles.get(last, last)}:")
    for place, item in enumerate(items, start=1):
        print(f"{place:3}. {item}  {titles.get(item, '')}".rstrip())
    return {"history": user["item_ids"], "recommended": items}


def main(argv: list[str]) -> None:
    """Train, evaluate, save."""
    data, model_arguments, sasrec_arguments, training = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO if training.should_log else logging.WARNING)
    set_seed(training.seed)
    titles: dict[str, str] = {}
    if data.dataset == "demo":
        world = make_demo_world()
        sequences, titles = world.sequences, world.titles
    else:
        sequences = load_sequences(data.dataset, user_column=data.user_column, items_column=data.items_column)
    items = list(titles) or catalogue(sequences)
    tokenizer = build_item_tokenizer(items)
    splits = leave_one_out(sequences)
    tests = test_sets(data, splits, items, training.seed)
    print(f"{data.dataset}: {len(sequences)} users, {len(items)} items, {len(splits['test'])} users with a test target")

    checkpoint = training.resume_from_checkpoint
    if checkpoint in ("True", "true", True):
        checkpoint = get_last_checkpoint(str(training.output_dir))
    source = model_arguments.item_embeddings
    output = Path(str(training.output_dir))
    made_sasrec = output / "sasrec"
    if source is None and checkpoint is not None and (made_sasrec / "model.safetensors").is_file():
        source = str(made_sasrec)
    if source is None:
        source = train_sasrec(
            sasrec_arguments, training, tokenizer, splits, model_arguments.max_history, data.exclude_seen
        )
    model = make_model(model_arguments, training, load_item_embeddings(source, tokenizer))
    trainer = RankingTrainer(
        model,
        training,
        tokenizer=tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        exclude_seen=data.exclude_seen,
        early_stopping_patience=model_arguments.early_stopping_patience,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    if not trainer.is_world_process_zero():
        return

    popularity = PopularityModel(splits["train"]["item_ids"], tokenizer)
    rankers: dict[str, torch.nn.Module] = {"popularity": popularity.to(training.device)}
    if is_sasrec(source):
        rankers["SASRec"] = SASRecModel.from_pretrained(source).to(training.device)
    rankers["E4SRec"] = model
    reports: dict[str, dict[str, RankingReport]] = {
        kind: {
            name: evaluate_ranking(
                ranker,
                dataset,
                tokenizer if name != "SASRec" else AutoTokenizer.from_pretrained(source),
                exclude_seen=data.exclude_seen,
                batch_size=training.per_device_eval_batch_size,
            )
            for name, ranker in rankers.items()
        }
        for kind, dataset in tests.items()
    }
    save_trained(model, tokenizer, output)
    settings = {name: value for part in (data, model_arguments, sasrec_arguments) for name, value in vars(part).items()}
    write_model_card(
        output,
        model.config,
        reports,
        settings={**settings, **recipe(training)},
        random_base=model_arguments.base_model is None,
    )
    for _kind, table in reports.items():
        print(f"\nTest targets, {table['E4SRec'].protocol}; 95% bootstrap intervals over users\n")
        print(results_table(table))
    if titles:
        write_json(output / "item_titles.json", titles)
    sample = sample_recommendations(model, tokenizer, splits["test"][0], titles)
    write_json(output / "sample_recommendations.json", sample)
    print(f"\nSaved to {training.output_dir}")


def recipe(training: TrainingArguments) -> dict[str, Any]:
    """The training arguments that make the model what it is."""
    names = (
        "learning_rate",
        "num_train_epochs",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "lr_scheduler_type",
        "warmup_steps",
        "weight_decay",
        "seed",
        "bf16",
    )
    return {name: getattr(training, name) for name in names}


def write_json(path: Path, content: Any) -> None:
    """Write beside, then rename."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main(sys.argv[1:])
