"""Train E4SRec on item sequences: SASRec item vectors, then the adapter, then full ranking of the test targets.

    python examples/train.py                                                     # the demo
    accelerate launch examples/train.py --config examples/configs/beauty.yaml --dataset Beauty.txt

Settings come from `--config` (YAML) and from flags, which win. Everything is selected on validation; test targets are
ranked once, at the end.
"""

import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from arguments import DataArguments, ModelArguments, SASRecArguments, card_seeds, card_settings, parse_arguments
from checkpoints import find_checkpoints, remove_checkpoints
from datasets import Dataset
from huggingface_hub import CommitInfo, HfApi
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel
from e4srec_hf.cards.callback import CardCallback
from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.data import build_item_tokenizer, item_catalogue, make_demo_world, tokenize_histories, with_sampled_negatives
from e4srec_hf.data.item_vectors import is_sasrec, load_item_embeddings
from e4srec_hf.data.opening import TrainingData, from_sequences, load_training_data
from e4srec_hf.evaluation.popularity import PopularityModel, popularity_skew
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.evaluation.reports import RankingReport, results_table, save_reports
from e4srec_hf.files import write_json
from e4srec_hf.files import TITLES_NAME
from e4srec_hf.hub.push import push_folder
from e4srec_hf.training.saving import save_trained
from e4srec_hf.training.tiny_base import make_tiny_base
from e4srec_hf.training.trainer import SELECT_ON_VALIDATION, RankingTrainer

logger = logging.getLogger("train")


def as_saved(trainer: RankingTrainer) -> Any:
    """The trained model without the autocast that the trainer wraps around it: as it will be when loaded."""
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


def train_sasrec(
    arguments: SASRecArguments,
    training: TrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    splits: dict[str, Any],
    max_history: int,
    data: DataArguments,
    card: CardCallback,
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
        shuffle_histories=arguments.sasrec_shuffle_histories,
        all_targets=data.all_targets,
        early_stopping_patience=arguments.sasrec_patience,
        callbacks=[card],
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


def load_data(data: DataArguments, seed: int) -> TrainingData:
    """The data set, and on the log what it was taken for."""
    if data.dataset == "demo":
        world = make_demo_world()
        found = from_sequences(world.sequences, "demo", "the demo, made on the spot", world.titles)
    else:
        found = load_training_data(
            data.dataset,
            streaming=data.streaming,
            seed=seed,
            user_column=data.user_column,
            items_column=data.items_column,
        )
    logger.info(
        f"{data.dataset}: {found.kind}; {found.facts['users']} users, {len(found.items)} items, {len(found.test)} test "
        f"targets{', training rows are streamed' if data.streaming else ''}"
    )
    return found


def test_targets(data: DataArguments, found: TrainingData, tokenizer: PreTrainedTokenizerBase) -> dict[str, Dataset]:
    """The test targets by what they are ranked among; none where they are not to be ranked."""
    if not data.rank_test:
        return {}
    tests = {"full": found.test}
    if data.negatives is not None:
        items = item_catalogue(tokenizer)
        tests["sampled"] = with_sampled_negatives(
            found.test, data.negatives, sequences=found.sequences, items=items, seed=data.negatives_seed
        )
    return tests


def train_e4srec(
    arguments: ModelArguments,
    training: TrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    splits: dict[str, Any],
    data: DataArguments,
    item_embeddings: torch.Tensor,
    card: CardCallback,
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
        shuffle_histories=arguments.shuffle_histories,
        all_targets=data.all_targets,
        early_stopping_patience=arguments.early_stopping_patience,
        callbacks=[card],
    )
    logger.info(
        f"E4SRec: a step has {trainer.targets_a_step():.1f} targets on average. "
        + ("A history is read once for all of them." if model.packing.passed else model.packing.reason)
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


Ranker = tuple[Any, PreTrainedTokenizerBase]


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


def write_results(
    folders: list[Path],
    reports: dict[str, dict[str, RankingReport]],
    rankers: dict[str, Ranker],
    splits: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    data: DataArguments,
    titles: dict[str, str],
) -> None:
    """What the folders of the models hold besides them: figures, the lean towards popular items, titles, the card."""
    if reports:
        models = {name: ranker for name, ranker in rankers.items() if name != "popularity"}
        skew = popularity_skew(models, splits["train"], splits["test"], tokenizer, exclude_seen=data.exclude_seen)
    for folder in folders:
        if reports:
            save_reports(reports, folder, popularity_skew=skew)
        if titles:
            write_json(folder / TITLES_NAME, titles)
        refresh_model_card(folder)


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
    found = load_data(data, training.seed)
    tokenizer, splits, facts = build_item_tokenizer(found.items), found.splits, found.facts
    if not len(splits["validation"]):
        sys.exit(f"{data.dataset}: there is no validation target to select on, as where no user has three items.")
    tests = test_targets(data, found, tokenizer)
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
            CardCallback(facts, settings=card_settings(data, sasrec_arguments), seeds=card_seeds(data)),
            checkpoints["sasrec"],
        )
    model = None
    if not only_sasrec:
        vectors = load_item_embeddings(source, tokenizer)
        card = CardCallback(
            facts,
            settings=card_settings(data, model_arguments, sasrec_arguments),
            seeds=card_seeds(data),
            sasrec=source if is_sasrec(source) else None,
            random_base=model_arguments.base_model is None,
        )
        trainer = train_e4srec(model_arguments, training, tokenizer, splits, data, vectors, card, checkpoints["e4srec"])
        model = as_saved(trainer)
    if not PartialState().is_main_process:
        return

    rankers = baselines(source, splits["train"], tokenizer, training.device)
    if model is not None:
        rankers["E4SRec"] = (model, tokenizer)
        save_trained(model, tokenizer, output)
    reports = rank_tests(rankers, tests, data, training)
    trained = [Path(source)] if Path(source) == output / "sasrec" else []
    if model is not None:
        trained.append(output)
    write_results(trained, reports, rankers, splits, tokenizer, data, found.titles)
    for table in reports.values():
        print(f"\nTest targets, {table['popularity'].protocol}; 95% bootstrap intervals over users\n")
        print(results_table(table))
    if data.dataset == "demo" and model is not None:
        sample = sample_recommendations(model, tokenizer, splits["test"][0], found.titles)
        write_json(output / "sample_recommendations.json", sample)
    print(f"\nSaved to {trained[-1]}")
    if training.push_to_hub:
        print(f"Pushed: {push(training, trained[-1]).commit_url}")


def push(training: TrainingArguments, directory: Path) -> CommitInfo:
    """Push a finished folder to the Hub, card and figures included."""
    return push_folder(
        directory,
        training.hub_model_id or Path(str(training.output_dir)).absolute().name,
        private=training.hub_private_repo,
        token=training.hub_token,
        revision=training.hub_revision,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
