"""Train E4SRec on item sequences: SASRec item vectors, then the adapter, then full ranking of the test targets.

    python examples/train.py                                                     # the demo
    accelerate launch examples/train.py --config examples/configs/beauty.yaml --dataset Beauty.txt

Settings come from `--config` (YAML) and from flags, which win. Everything is selected on validation; test targets are
ranked once, at the end.
"""

import dataclasses
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from arguments import DataArguments, ModelArguments, SASRecArguments, parse_arguments, recipe
from datasets import Dataset, DatasetDict
from e4srec_hf.modeling.pushing import push_folder
from huggingface_hub import CommitInfo, HfApi
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
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
    item_catalogue,
    leave_one_out,
    load_sequences,
    make_demo_world,
    tokenize_histories,
    with_sampled_negatives,
)
from e4srec_hf.evaluation import RankingReport, evaluate_ranking, results_table
from e4srec_hf.item_embeddings import is_sasrec, load_item_embeddings
from e4srec_hf.popularity import PopularityModel
from e4srec_hf.tiny_base import make_tiny_base
from e4srec_hf.training import SELECT_ON_VALIDATION, RankingTrainer, save_trained

logger = logging.getLogger("train")


def as_saved(trainer: RankingTrainer) -> Any:
    """The trained model without the autocast that the trainer wraps around it: as it will be when loaded."""
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


def train_sasrec(
    arguments: SASRecArguments,
    training: TrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    splits: DatasetDict,
    max_history: int,
    data: DataArguments,
    checkpoint: str | None,
) -> str:
    """Train the ID model, selected on validation, and keep it in the folder ``sasrec`` of the output.

    What `SASRecArguments` does not say, the scheduler, the warm-up and the precision among it, is as for the adapter.
    """
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
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        exclude_seen=data.exclude_seen,
        all_targets=data.all_targets,
        early_stopping_patience=arguments.sasrec_patience,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        save_trained(as_saved(trainer), tokenizer, directory)
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
        projection_init=arguments.projection_init,
        item_dropout=arguments.item_dropout,
        base_dropout=arguments.base_dropout,
        **placement,
    )


def check_access(arguments: ModelArguments, training: TrainingArguments) -> None:
    """Look for the base, and ask the Hub who may push, before SASRec is trained, which may take long.

    Raises:
        SystemExit: If the base's config, or a tokenizer for the prompt, cannot be found, or the token is not known.
    """
    if training.push_to_hub:
        try:
            HfApi(token=training.hub_token).whoami()
        except (OSError, ValueError) as error:
            sys.exit(f"--push_to_hub: {error}")
    if arguments.base_model is None or arguments.model == "sasrec":
        return
    try:
        AutoConfig.from_pretrained(arguments.base_model, trust_remote_code=False)
        if arguments.instruction or arguments.response:
            AutoTokenizer.from_pretrained(arguments.base_model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        sys.exit(f"--base_model {arguments.base_model} cannot be used: {error}")


def find_checkpoints(training: TrainingArguments) -> dict[str, str | None]:
    """The checkpoints to go on from, of the adapter and of SASRec, and nothing left over from a run before.

    Raises:
        SystemExit: If there is nothing to resume, or an earlier run would get mixed up with this one.
    """
    output = Path(str(training.output_dir))
    stages = {"e4srec": output, "sasrec": output / "sasrec"}
    found = {name: get_last_checkpoint(str(stage)) if stage.is_dir() else None for name, stage in stages.items()}
    asked = str(training.resume_from_checkpoint or "false")
    if asked.lower() == "true":
        if not any(found.values()):
            sys.exit(f"--resume_from_checkpoint: there is no checkpoint in {output}.")
        return found
    if asked.lower() != "false":
        if not Path(asked).is_dir():
            sys.exit(f"--resume_from_checkpoint: there is no folder {asked}.")
        return found | {"e4srec": asked}
    if any(found.values()):
        sys.exit(
            f"{output} holds checkpoints of an earlier run. Go on from them with --resume_from_checkpoint true, remove "
            "them with --overwrite true, or choose another --output_dir."
        )
    return found


def remove_checkpoints(training: TrainingArguments) -> None:
    """Clear the output folder of the checkpoints of an earlier run."""
    state = PartialState()
    if state.is_main_process:
        for stage in (Path(str(training.output_dir)), Path(str(training.output_dir), "sasrec")):
            for checkpoint in stage.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
    state.wait_for_everyone()


def sample_recommendations(
    model: E4SRecModel, tokenizer: PreTrainedTokenizerBase, user: dict[str, Any], titles: dict[str, str]
) -> dict[str, Any]:
    """Print ten recommendations for one made-up user, and return them with the history they follow."""
    batch = tokenize_histories(tokenizer, [user["item_ids"]])
    best = model.recommend(**batch.to(model.item_embeddings.weight.device))
    items = tokenizer.convert_ids_to_tokens(best.item_ids[0].tolist())
    print(f"\nTen recommendations for {user['user_id']}, who last had {titles[user['item_ids'][-1]]}:")
    for place, item in enumerate(items, start=1):
        print(f"{place:3}. {item}  {titles[item]}")
    return {"history": user["item_ids"], "recommended": items}


def load_data(data: DataArguments) -> tuple[Dataset, dict[str, str]]:
    """The sequences, and the titles of the items where they are made up."""
    if data.dataset == "demo":
        world = make_demo_world()
        return world.sequences, world.titles
    return load_sequences(data.dataset, user_column=data.user_column, items_column=data.items_column), {}


def test_targets(
    data: DataArguments, test: Dataset, sequences: Dataset, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Dataset]:
    """The test targets by what they are ranked among; none where they are not to be ranked."""
    if not data.rank_test:
        return {}
    tests = {"full": test}
    if data.negatives is not None:
        items = item_catalogue(tokenizer)
        tests["sampled"] = with_sampled_negatives(
            test, data.negatives, sequences=sequences, items=items, seed=data.negatives_seed
        )
    return tests


def train_e4srec(
    arguments: ModelArguments,
    training: TrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    splits: DatasetDict,
    data: DataArguments,
    item_embeddings: torch.Tensor,
    checkpoint: str | None,
) -> RankingTrainer:
    """Train the adapter, selected on validation."""
    model = make_model(arguments, training, item_embeddings)
    trainer = RankingTrainer(
        model,
        training,
        tokenizer=tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        exclude_seen=data.exclude_seen,
        max_targets=arguments.max_targets,
        all_targets=data.all_targets,
        early_stopping_patience=arguments.early_stopping_patience,
    )
    logger.info(
        f"E4SRec: a step has {trainer.targets_a_step():.1f} targets on average. "
        + ("A history is read once for all of them." if model.packing.passed else model.packing.reason)
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


Ranker = tuple[torch.nn.Module, PreTrainedTokenizerBase]


def baselines(
    source: str, train: Dataset, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> dict[str, Ranker]:
    """Popularity, and SASRec where the item vectors are one's."""
    rankers: dict[str, Ranker] = {"popularity": (PopularityModel(train["item_ids"], tokenizer).to(device), tokenizer)}
    if is_sasrec(source):
        rankers["SASRec"] = (SASRecModel.from_pretrained(source).to(device), AutoTokenizer.from_pretrained(source))
    return rankers


def rank_tests(
    rankers: dict[str, Ranker],
    tests: dict[str, Dataset],
    data: DataArguments,
    training: TrainingArguments,
) -> dict[str, dict[str, RankingReport]]:
    """Kind of ranking to model name to report."""
    batch_size = training.per_device_eval_batch_size
    return {
        kind: {
            name: evaluate_ranking(ranker, dataset, items, exclude_seen=data.exclude_seen, batch_size=batch_size)
            for name, (ranker, items) in rankers.items()
        }
        for kind, dataset in tests.items()
    }


def main(argv: list[str]) -> None:
    """Train, evaluate, save."""
    data, model_arguments, sasrec_arguments, training = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO if training.should_log else logging.WARNING)
    only_sasrec = model_arguments.model == "sasrec"
    check_access(model_arguments, training)
    if data.overwrite and str(training.resume_from_checkpoint or "false").lower() == "false":
        remove_checkpoints(training)
    checkpoints = find_checkpoints(training)
    output = Path(str(training.output_dir))
    sequences, titles = load_data(data)
    tokenizer = build_item_tokenizer(list(titles) or catalogue(sequences))
    splits = leave_one_out(sequences)
    if not len(splits["validation"]):
        sys.exit(f"{data.dataset}: no user has three items, so there is no validation target to select on.")
    tests = test_targets(data, splits["test"], sequences, tokenizer)
    logger.info(
        f"{data.dataset}: {len(sequences)} users, {len(tokenizer) - 2} items, "
        f"{len(splits['test'])} users with a test target"
    )

    source = model_arguments.item_embeddings
    # a checkpoint of the adapter means that this run has finished its SASRec; without one, what lies there may be older
    if source is None and checkpoints["e4srec"] is not None and (output / "sasrec" / "model.safetensors").is_file():
        source = str(output / "sasrec")
    if source is None:
        source = train_sasrec(
            sasrec_arguments,
            training,
            tokenizer,
            splits,
            model_arguments.max_history,
            data,
            checkpoints["sasrec"],
        )
    model = None
    if not only_sasrec:
        vectors = load_item_embeddings(source, tokenizer)
        trainer = train_e4srec(model_arguments, training, tokenizer, splits, data, vectors, checkpoints["e4srec"])
        model = as_saved(trainer)
    if not PartialState().is_main_process:
        return

    reports = rank_tests(
        {
            **baselines(source, splits["train"], tokenizer, training.device),
            **({} if model is None else {"E4SRec": (model, tokenizer)}),
        },
        tests,
        data,
        training,
    )
    if model is not None:
        save_trained(model, tokenizer, output)
        parts = (data, model_arguments, sasrec_arguments)
        settings = {name: value for part in parts for name, value in vars(part).items()}
        write_model_card(
            output,
            model.config,
            reports,
            settings={**settings, **recipe(training)},
            random_base=model_arguments.base_model is None,
        )
    for table in reports.values():
        print(f"\nTest targets, {table['popularity'].protocol}; 95% bootstrap intervals over users\n")
        print(results_table(table))
    if data.dataset == "demo" and model is not None:
        write_json(output / "item_titles.json", titles)
        sample = sample_recommendations(model, tokenizer, splits["test"][0], titles)
        write_json(output / "sample_recommendations.json", sample)
    saved = source if model is None else output
    print(f"\nSaved to {saved}")
    if training.push_to_hub:
        print(f"Pushed: {push(training, saved).commit_url}")


def push(training: TrainingArguments, directory: str | Path) -> CommitInfo:
    """Push a finished folder to the Hub, card and figures included."""
    return push_folder(
        directory,
        training.hub_model_id or Path(str(training.output_dir)).absolute().name,
        private=training.hub_private_repo,
        token=training.hub_token,
        revision=training.hub_revision,
    )


def write_json(path: Path, content: Any) -> None:
    """Write beside, then rename."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main(sys.argv[1:])
