"""Train and compare popularity, EASE, SASRec and E4SRec under one protocol, over several seeds.

    python benchmarks/quality.py --dataset Beauty.txt --seeds 3
    python benchmarks/quality.py --dataset Beauty.txt --models sasrec-best,e4srec-best --seeds 1

Leave-one-out, full ranking. Epochs are selected on validation, as the recipes were by `benchmarks/search.py`. Test
targets are ranked here, once a recipe is fixed; no flag changes a setting. Finished runs are kept by their settings and
read again; a run that was interrupted goes on from its last epoch.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, disable_progress_bars
from measuring import write_result
from numpy.typing import NDArray
from quality_report import draw, markdown_table, paired_bootstrap
from runs import Run, Trained, add_arguments, check_arguments, code_digest, digest, make_run, read_recipe, train_all
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from e4srec_hf.data import (
    build_item_tokenizer,
    catalogue_of,
    item_catalogue,
    leave_one_out,
    load_sequences,
    with_sampled_negatives,
)
from e4srec_hf.evaluation import ease
from e4srec_hf.evaluation.metrics import mean_metrics
from e4srec_hf.evaluation.popularity import PopularityModel
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.modeling.configuration_e4srec import PAPER_INSTRUCTION, PAPER_RESPONSE

CONFIGS = Path(__file__).parent.parent / "examples" / "configs"
AS_IN_THE_PAPER = {
    "instruction": PAPER_INSTRUCTION,
    "response": PAPER_RESPONSE,
    "tuning": "lora",
    "head": "linear",
    "train_item_embeddings": False,
    "projection_init": "random",
    "shuffle_histories": None,
    "all_targets": None,
    "item_dropout": 0.0,
    "base_dropout": 0.0,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.1,
    "warmup_steps": 100,
    "num_train_epochs": 3,
    "max_history": 50,
    "per_device_train_batch_size": 2,  # users: of Amazon Beauty about as many targets as the paper's 16
    "sasrec_hidden_size": 64,
    "sasrec_dropout": 0.2,
    "sasrec_shuffle_histories": None,
}
#: What the paper has other on a data set.
IN_THE_PAPER_FOR = {"yelp": {"warmup_steps": 300, "num_train_epochs": 5}}
FROZEN = {"tuning": "lora", "head": "linear", "learning_rate": 1e-3, "item_dropout": 0.2, "base_dropout": 0.0}

#: What is compared: a name, what it is in words, and how its settings differ from the recipe's. ``None`` is the default
#: of train.py, whatever the recipe says.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "ease": ("EASE", {}),
    "sasrec-bce": (
        "SASRec, one negative (BCE)",
        {
            "model": "sasrec",
            "sasrec_loss": "bce",
            "sasrec_shuffle_histories": None,
            "sasrec_num_negatives": 1,
            "sasrec_learning_rate": 1e-3,
            "sasrec_epochs": 60,
            "sasrec_patience": 5,
        },
    ),
    "sasrec-ss": (
        "SASRec, sampled softmax (256 negatives)",
        {"model": "sasrec", "sasrec_loss": "sampled_softmax", "sasrec_num_negatives": 256},
    ),
    "sasrec-best": ("SASRec, the recipe's (full cross-entropy)", {"model": "sasrec"}),
    "e4srec-paper": ("E4SRec with the paper's settings: frozen base, LoRA, linear head", AS_IN_THE_PAPER),
    "e4srec-frozen": ("E4SRec, frozen base, LoRA, linear head", FROZEN),
    "e4srec-tied": ("E4SRec, base trained whole, tied head", {"head": "tied"}),
    "e4srec-best": ("E4SRec, the recipe's (base trained whole, linear head)", {}),
    "in-order": (
        "… trained on histories in their order alone",
        {"shuffle_histories": None, "sasrec_shuffle_histories": None},
    ),
    "no-prompt": ("… without a prompt", {"instruction": "", "response": ""}),
    "no-base": ("… without a base: projection straight into the head", {"made_base_layers": 0, "base_dropout": 0.0}),
    "random-vectors": ("… with random item vectors instead of SASRec's", {"item_embeddings": "random"}),
}
#: Models that take no training run.
BASELINES = ("popularity", "ease")
#: Columns of the table: protocol and metric.
COLUMNS = [
    ("seen hidden", "hr@5"),
    ("seen hidden", "hr@10"),
    ("seen hidden", "ndcg@5"),
    ("seen hidden", "ndcg@10"),
    ("seen kept", "hr@10"),
    ("seen kept", "ndcg@10"),
]


def rank(
    model: torch.nn.Module, items: PreTrainedTokenizerBase, tests: dict[str, Dataset]
) -> dict[str, NDArray[np.float64]]:
    """Ranks of the test targets, by protocol."""
    ranks = {
        f"seen {'hidden' if hide else 'kept'}": evaluate_ranking(model, tests["full"], items, exclude_seen=hide).ranks
        for hide in (True, False)
    }
    if "sampled" in tests:
        ranks["sampled negatives"] = evaluate_ranking(model, tests["sampled"], items).ranks
    return ranks


def rank_trained(
    trained: Trained, tests: dict[str, Dataset], arguments: argparse.Namespace
) -> dict[str, NDArray[np.float64]]:
    """As [`rank`], kept beside the run."""
    path = trained.folder / f"test_ranks-{code_digest()}{suffix(arguments)}.npz"
    if not path.is_file():
        items = AutoTokenizer.from_pretrained(trained.folder)
        keep(path, rank(AutoModel.from_pretrained(trained.folder).to(arguments.device), items, tests))
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def rank_ease(
    splits: DatasetDict, tests: dict[str, Dataset], items: PreTrainedTokenizerBase, arguments: argparse.Namespace
) -> tuple[dict[str, NDArray[np.float64]], float, dict[str, float]]:
    """As [`rank`], kept in the cache, and the penalty that was chosen and its figures on validation."""
    code = digest(Path(ease.__file__))[:16]
    path = arguments.cache / f"ease-{digest(arguments.dataset)[:16]}-{code}{suffix(arguments)}.npz"
    if not path.is_file():
        model, chosen = ease.best_ease(splits["train"], splits["validation"], items, arguments.device)
        path.parent.mkdir(parents=True, exist_ok=True)
        keep(path, {**rank(model, items, tests), **{f"chosen {name}": np.array(of) for name, of in chosen.items()}})
    with np.load(path, allow_pickle=False) as stored:
        ranks = dict(stored)
    chosen = {
        name.removeprefix("chosen "): float(ranks.pop(name)) for name in list(ranks) if name.startswith("chosen ")
    }
    return ranks, chosen.pop("penalty"), chosen


def suffix(arguments: argparse.Namespace) -> str:
    """What kept ranks bear in their name: which negatives were ranked too."""
    return "" if arguments.negatives is None else f"-{digest(Path(arguments.negatives))[:16]}"


def keep(path: Path, arrays: dict[str, NDArray[np.float64]]) -> None:
    """Write a file of arrays, whole or not at all."""
    part = path.with_name(f".{path.name}.part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def summary(ranks: list[dict[str, NDArray[np.float64]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Protocol and metric to the mean over the seeds, their standard deviation and each value."""
    by_protocol: dict[str, dict[str, dict[str, Any]]] = {}
    for protocol in ranks[0]:
        means = [mean_metrics(of_seed[protocol]) for of_seed in ranks]
        by_protocol[protocol] = {
            metric: {
                "mean": float(np.mean([m[metric] for m in means])),
                "spread": float(np.std([m[metric] for m in means], ddof=1)) if len(means) > 1 else None,
                "seeds": [m[metric] for m in means],
            }
            for metric in means[0]
        }
    return by_protocol


def best_on_validation(results: dict[str, dict[str, Any]], family: str) -> str | None:
    """The model of a family, ``sasrec-…`` or ``e4srec-…``, with the highest mean NDCG@10 on validation."""
    means = {
        name: np.mean([run["validation"]["ndcg@10"] for run in result["runs"]])
        for name, result in results.items()
        if name.startswith(f"{family}-")
    }
    return max(means, key=lambda name: means[name]) if means else None


def compare(
    results: dict[str, dict[str, Any]], ranks: dict[str, list[dict[str, NDArray[np.float64]]]]
) -> dict[str, Any]:
    """Every E4SRec against the best SASRec, and which E4SRec is best, both on validation."""
    sasrec, e4srec = (best_on_validation(results, family) for family in ("sasrec", "e4srec"))
    if sasrec is None or e4srec is None:
        return {}
    return {
        "best_sasrec_on_validation": sasrec,
        "best_e4srec_on_validation": e4srec,
        "difference_from_best_sasrec": {
            name: {
                metric: paired_bootstrap(ranks[name], ranks[sasrec], "seen hidden", metric)._asdict()
                for metric in ("hr@10", "ndcg@10")
            }
            for name, result in results.items()
            if result["kind"] == "e4srec"
        },
    }


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, seeds=3)
    parser.add_argument("--config", type=Path, help="The recipe; by default the one in examples/configs of that name.")
    parser.add_argument("--negatives", help="Rank among these too: a file, a line a user: user negative …")
    parser.add_argument("--models", default=",".join(MODELS), help="Of these: %(default)s.")
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    arguments.models = arguments.models.split(",")
    if unknown := sorted(set(arguments.models) - set(MODELS)):
        parser.error(f"there is no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if arguments.config is None:
        arguments.config = CONFIGS / f"{arguments.dataset.stem.lower()}.yaml"
    if not arguments.config.is_file():
        parser.error(f"there is no recipe {arguments.config}: name one with --config")
    if arguments.negatives is not None and not Path(arguments.negatives).is_file():
        parser.error(f"there is no file {arguments.negatives}")
    return arguments


def plan(arguments: argparse.Namespace) -> dict[tuple[str, int], Run]:
    """Model and seed to the run that it takes."""
    recipe = read_recipe(arguments.config)
    planned = {}
    for name in arguments.models:
        changes = MODELS[name][1]
        if name == "e4srec-paper":
            changes = changes | IN_THE_PAPER_FOR.get(arguments.dataset.stem.lower(), {})
        for seed in range(arguments.seeds) if name not in BASELINES else ():
            planned[name, seed] = make_run(arguments.dataset, recipe, changes, seed, arguments.cache)
    return planned


def main() -> None:
    """Train what is missing, rank, compare, write."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    disable_progress_bars()
    splits, tests, items = load(arguments)
    planned = plan(arguments)
    if "ease" in arguments.models and len(items) > ease.MOST_ITEMS:
        sys.exit(f"EASE weighs every item against every other: {len(items)} are too many. Leave it out of --models.")
    finished: dict[str, Trained] = {}
    for trained in train_all(planned.values(), arguments.cache, arguments.jobs):
        finished[trained.run.key] = trained
        logging.info(f"{trained.run.kind} {trained.run.key}: {trained.best}")

    torch.set_num_threads(os.cpu_count() or 1)
    results: dict[str, dict[str, Any]] = {}
    ranks: dict[str, list[dict[str, NDArray[np.float64]]]] = {}
    for name in arguments.models:
        of_seeds = [finished[run.key] for (model, _), run in planned.items() if model == name]
        described = [describe(trained) for trained in of_seeds]
        if name == "popularity":
            ranks[name] = [rank(PopularityModel(splits["train"]["item_ids"], items), items, tests)]
        elif name == "ease":
            of_ease, penalty, on_validation = rank_ease(splits, tests, items, arguments)
            ranks[name] = [of_ease]
            described = [{"settings": {"penalty": penalty}, "validation": on_validation, "curve": []}]
        else:
            ranks[name] = [rank_trained(trained, tests, arguments) for trained in of_seeds]
        results[name] = {
            "model": MODELS[name][0],
            "kind": of_seeds[0].run.kind if of_seeds else "baseline",
            "test": summary(ranks[name]),
            "runs": described,
        }
    figures: dict[str, Any] = {"models": results, "users": len(tests["full"]), "items": len(items) - 2}
    columns = COLUMNS + [("sampled negatives", m) for m in ("hr@1", "hr@10", "ndcg@10") if "sampled" in tests]
    table = markdown_table(results, columns)
    settings = argparse.Namespace(
        dataset=arguments.dataset,
        negatives=arguments.negatives and Path(arguments.negatives).name,
        config=arguments.config.name,
        models=arguments.models,
        seeds=arguments.seeds,
        device=arguments.device,
        results=arguments.results,
    )
    written = write_result(f"quality-{arguments.dataset.stem.lower()}", settings, figures | compare(results, ranks))
    written.with_suffix(".md").write_text(table, encoding="utf-8")
    draw(results, written.with_suffix(".png"))
    print(table)


def describe(trained: Trained) -> dict[str, Any]:
    """A run for the JSON."""
    run = trained.run
    return {
        "seed": run.seed,
        "settings": run.settings,
        "item_vectors": run.vectors.key if isinstance(run.vectors, Run) else run.vectors and run.vectors.name,
        "key": run.key,
        "code": trained.code,
        "seconds": trained.seconds,
        "validation": trained.best,
        "curve": trained.curve,
    }


def load(arguments: argparse.Namespace) -> tuple[DatasetDict, dict[str, Dataset], PreTrainedTokenizerBase]:
    """The splits, the test targets by kind of ranking, and the item tokenizer."""
    sequences = load_sequences(str(arguments.dataset))
    items = build_item_tokenizer(catalogue_of(sequences))
    splits = leave_one_out(sequences)
    tests = {"full": splits["test"]}
    if arguments.negatives is not None:
        tests["sampled"] = with_sampled_negatives(
            splits["test"], arguments.negatives, sequences=sequences, items=item_catalogue(items), seed=0
        )
    return splits, tests, items


if __name__ == "__main__":
    main()
