"""Train E4SRec on item sequences: SASRec item vectors, then the adapter, then full ranking of the test targets.

    python examples/train.py                                                     # the demo
    accelerate launch examples/train.py --config examples/configs/beauty.yaml --dataset Beauty.txt

`e4srec train` runs this file. After a mistake `accelerate launch` shows a traceback of its own, with `--quiet` none.
Settings come from `--config` (YAML) and from flags, which win. Everything is selected on validation; test targets are
ranked once, at the end.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed

from e4srec_hf import E4SRecModel, RankingTrainer, load_item_embeddings, save_trained
from e4srec_hf.cards import CardCallback
from e4srec_hf.data import build_item_tokenizer, load_training_data
from e4srec_hf.data.item_vectors import is_sasrec
from e4srec_hf.errors import naming, run_command
from e4srec_hf.hub import push_folder
from e4srec_hf.terminal import bars_only_on_terminals
from e4srec_hf.training.adapter import adapter_settings, check_access, check_titles, find_base, read_titles
from e4srec_hf.training.arguments import card_seeds, card_settings, parse_arguments
from e4srec_hf.training.checkpoints import check_fits, check_keeps, find_checkpoints
from e4srec_hf.training.data_size import head_for, settle
from e4srec_hf.training.fitted_start import RATES, fit_start
from e4srec_hf.training.packed_reading import how_it_reads
from e4srec_hf.training.progress import heading, say, show_epochs, warn
from e4srec_hf.training.results import (
    baselines,
    rank,
    save_results,
    save_sample,
    show_results,
    targets_to_rank,
    what_went_wrong,
)
from e4srec_hf.training.sasrec import as_saved, finished_sasrec, train_sasrec


def main(argv: list[str], prog: str = "train.py") -> None:
    """Train, evaluate, save and, with ``--push_to_hub``, push."""
    data, adapter, sasrec, training = parse_arguments(argv, prog)
    bars_only_on_terminals()
    check_access(adapter, training)
    checkpoints = find_checkpoints(training, overwrite=data.overwrite)
    output = Path(str(training.output_dir))

    heading("Data")
    columns = {"user_column": data.user_column, "items_column": data.items_column}
    dataset = load_training_data(data.dataset, streaming=data.streaming, seed=training.seed, **columns)
    say(f"{data.dataset}: {dataset.summary}")
    if not len(dataset.validation):
        raise ValueError(f"{data.dataset}: no user has three items, so there is no validation target to select on.")
    check_titles(adapter, data.dataset, dataset.titles)
    tokenizer = build_item_tokenizer(dataset.items)  # a token for each item
    tests = targets_to_rank(data, dataset, tokenizer)

    item_vectors = adapter.item_embeddings or finished_sasrec(sasrec, training, checkpoints["e4srec"])
    if item_vectors is None:
        item_vectors = train_sasrec(
            sasrec,
            training,
            data,
            dataset,
            tokenizer,
            max_history=adapter.max_history,
            checkpoint=checkpoints["sasrec"],
        )

    model = None
    if adapter.model == "e4srec":
        heading("E4SRec")
        base = find_base(adapter, training)
        with naming(item_vectors):
            vectors = load_item_embeddings(item_vectors, tokenizer)
        adapter.head = adapter.head or head_for(len(dataset.items))
        opened: Any = base
        if adapter.item_text:
            with naming(base):
                opened, vectors = read_titles(adapter, training, base, vectors, tokenizer, dataset.titles)
        set_seed(training.seed)
        with naming(base):
            recommender = E4SRecModel.from_base(opened, vectors, **adapter_settings(adapter))
        checkpoint = checkpoints["e4srec"]
        rates = fit_start(recommender, adapter, training, item_vectors, dataset, tokenizer, checkpoint=checkpoint)
        training, from_the_data = settle(training, adapter, dataset.train, all_targets=data.all_targets)
        trainer = RankingTrainer(
            recommender,
            training,
            tokenizer=tokenizer,
            train_dataset=dataset.train,
            eval_dataset=dataset.validation,
            exclude_seen=data.exclude_seen,
            max_targets=adapter.max_targets,
            shuffle_histories=adapter.shuffle_histories,
            all_targets=data.all_targets,
            early_stopping_patience=adapter.early_stopping_patience,
            learning_rates=rates,
            callbacks=[
                CardCallback(
                    dataset.facts,
                    settings=card_settings(data, adapter, sasrec)
                    | {flag: rates.get(part) for flag, part in RATES.items()},
                    seeds=card_seeds(data),
                    sasrec=item_vectors if is_sasrec(item_vectors) else None,
                    random_base=adapter.base_model is None,
                )
            ],
        )
        say(f"A step has {trainer.targets_a_step():.1f} targets on average. {how_it_reads(trainer.model)}")
        if from_the_data:
            say(from_the_data)
        show_epochs(trainer)
        check_fits(checkpoint, recommender)
        check_keeps(checkpoint, training, "E4SRec")
        trainer.train(resume_from_checkpoint=checkpoint)
        model = as_saved(trainer)
    if not PartialState().is_main_process:
        return

    rankers = baselines(item_vectors, dataset.train, tokenizer, training.device)
    folders = {"SASRec": Path(item_vectors)} if Path(item_vectors) == output / "sasrec" else {}
    if model is not None:
        rankers["E4SRec"] = (model, tokenizer)
        folders["E4SRec"] = output
        save_trained(model, tokenizer, output)
        if adapter.base_model is None and model.config.tuning == "full":
            shutil.rmtree(output / "base")  # the weights that it began with: the model has its own
    protocol: dict[str, Any] = {"exclude_seen": data.exclude_seen, "batch_size": training.per_device_eval_batch_size}
    on_validation, unranked = rank(rankers, {"validation": dataset.validation}, **protocol)
    validation = on_validation["validation"]
    reports, unranked_tests = rank(_without(rankers, unranked), tests, **protocol)
    unranked |= unranked_tests
    rankers = _without(rankers, unranked)
    wrong = what_went_wrong(validation, dataset.validation, tokenizer, folders, unranked)
    save_results(folders, reports, rankers, dataset, tokenizer, validation=validation, wrong=wrong)
    show_results(reports)
    if data.dataset == "demo" and model is not None and "E4SRec" in rankers:
        save_sample(model, tokenizer, dataset.test[0], dataset.titles, output)
    saved = list(folders.values())[-1]
    say(f"\nSaved to {saved}")
    for line in wrong.values():
        warn(line)
    if training.push_to_hub:
        repo = training.hub_model_id or output.absolute().name
        info = push_folder(
            saved,
            repo,
            private=training.hub_private_repo,
            token=training.hub_token,
            revision=training.hub_revision,
        )
        say(f"Pushed: {info.commit_url}")


def _without(rankers: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: ranker for name, ranker in rankers.items() if name not in names}


if __name__ == "__main__":
    run_command("train.py", main)
