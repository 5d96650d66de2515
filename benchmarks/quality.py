"""Train and compare popularity, SASRec and E4SRec under one protocol, over several seeds.

    python benchmarks/quality.py --dataset Beauty.txt --seeds 3
    python benchmarks/quality.py --dataset Beauty.txt --models sasrec-best,e4srec-best --seeds 1

Leave-one-out, full ranking. Epochs are selected on validation, as the recipes were by `benchmarks/search.py`. Test
targets are ranked here, for the models named below, whose settings this script has no way to change. Finished runs are
kept by their settings and read again; a run that was interrupted goes on from its last epoch.
"""

import argparse
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, disable_progress_bars
from e4srec_hf.modeling.configuration_e4srec import PAPER_INSTRUCTION, PAPER_RESPONSE
from measuring import RESULTS, write_result
from numpy.typing import NDArray
from quality_report import draw, markdown_table, paired_bootstrap
from runs import Run, Trained, digest, make_run, read_recipe, train_all
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from e4srec_hf.data import (
    build_item_tokenizer,
    catalogue,
    item_catalogue,
    leave_one_out,
    load_sequences,
    with_sampled_negatives,
)
from e4srec_hf.evaluation import evaluate_ranking
from e4srec_hf.metrics import mean_metrics
from e4srec_hf.popularity import PopularityModel

CONFIGS = Path(__file__).parent.parent / "examples" / "configs"
AS_IN_THE_PAPER = {
    "instruction": PAPER_INSTRUCTION,
    "response": PAPER_RESPONSE,
    "tuning": "lora",
    "head": "linear",
    "train_item_embeddings": False,
    "projection_init": "random",
    "item_dropout": 0.0,
    "base_dropout": 0.0,
    "learning_rate": 3e-4,
    "warmup_steps": 100,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 2,  # users: of Amazon Beauty about as many targets as the paper's 16
}
FROZEN = {"tuning": "lora", "learning_rate": 2e-3}

#: What is compared: a name, what it is in words, and how its settings differ from the recipe's.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "sasrec-bce": (
        "SASRec, one negative (BCE)",
        {
            "model": "sasrec",
            "sasrec_loss": "bce",
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
    "e4srec-paper": ("E4SRec as in the paper: frozen base, LoRA, linear head", AS_IN_THE_PAPER),
    "e4srec-frozen": ("E4SRec, frozen base, LoRA, tied head", FROZEN),
    "e4srec-best": ("E4SRec, the recipe's (base trained whole)", {}),
    "no-prompt": ("… without a prompt", {"instruction": "", "response": ""}),
    "no-base": ("… without a base: projection straight into the head", {"made_base_layers": 0, "base_dropout": 0.0}),
    "random-vectors": ("… with random item vectors instead of SASRec's", {"item_embeddings": "random"}),
}
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


def rank_trained(trained: Trained, tests: dict[str, Dataset], negatives: str | None) -> dict[str, NDArray[np.float64]]:
    """As [`rank`], kept beside the run."""
    suffix = f"-{digest(Path(negatives))[:16]}" if negatives is not None else ""
    path = trained.folder / f"test_ranks{suffix}.npz"
    if not path.is_file():
        items = AutoTokenizer.from_pretrained(trained.folder)
        ranks = rank(AutoModel.from_pretrained(trained.folder), items, tests)
        part = path.with_name(f".{path.name}.part.npz")
        np.savez(part, **ranks)  # type: ignore[arg-type]
        part.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


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


def best_on_validation(results: dict[str, dict[str, Any]], kind: str) -> str | None:
    """The model of a kind with the highest mean NDCG@10 on validation."""
    means = {
        name: np.mean([seed["validation"]["ndcg@10"] for seed in result["runs"]])
        for name, result in results.items()
        if result["kind"] == kind
    }
    return max(means, key=lambda name: means[name]) if means else None


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path, help="A text file: a line a user, user item item …")
    parser.add_argument("--config", type=Path, help="The recipe; by default the one in examples/configs of that name.")
    parser.add_argument("--negatives", help="Rank among these negatives too: a line a user, user negative …")
    parser.add_argument("--models", default=",".join(MODELS), help="Of these: %(default)s.")
    parser.add_argument("--seeds", type=int, default=3, help="How many.")
    parser.add_argument("--jobs", type=int, help="Runs at a time; by default one a core, and one on an accelerator.")
    parser.add_argument("--cache", type=Path, default=Path("outputs/quality"), help="Where runs are kept.")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write the table, JSON and pictures to.")
    arguments = parser.parse_args()
    arguments.models = arguments.models.split(",")
    if unknown := sorted(set(arguments.models) - set(MODELS)):
        parser.error(f"there is no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if not arguments.dataset.is_file():
        parser.error(f"there is no file {arguments.dataset}")
    if arguments.config is None:
        arguments.config = CONFIGS / f"{arguments.dataset.stem.lower()}.yaml"
    if not arguments.config.is_file():
        parser.error(f"there is no recipe {arguments.config}: name one with --config")
    cuda = torch.cuda.is_available()
    arguments.jobs = arguments.jobs or (1 if cuda else os.cpu_count() or 1)
    arguments.device = "cuda" if cuda else "cpu"
    return arguments


def main() -> None:
    """Train what is missing, rank, compare, write."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    disable_progress_bars()
    torch.set_num_threads(os.cpu_count() or 1)
    recipe = read_recipe(arguments.config)
    seeds = range(arguments.seeds)
    cache: Path = arguments.cache.absolute()
    planned = {
        (name, seed): make_run(arguments.dataset.absolute(), recipe, MODELS[name][1], seed, cache)
        for name in arguments.models
        if name != "popularity"
        for seed in seeds
    }
    finished: dict[str, Trained] = {}
    for trained in train_all(planned.values(), cache, arguments.jobs):
        finished[trained.run.key] = trained
        took = "" if trained.seconds is None else f" in {trained.seconds:.0f} s"
        logging.info(f"{trained.run.kind} {trained.run.key}{took}: {trained.best}")

    splits, tests, items = load(arguments)
    results: dict[str, dict[str, Any]] = {}
    ranks: dict[str, list[dict[str, NDArray[np.float64]]]] = defaultdict(list)
    for name in arguments.models:
        words, _ = MODELS[name]
        runs: list[dict[str, Any]] = []
        if name == "popularity":
            ranks[name] = [rank(PopularityModel(splits["train"]["item_ids"], items), items, tests)]
        for seed in seeds if name != "popularity" else ():
            trained = finished[planned[name, seed].key]
            ranks[name].append(rank_trained(trained, tests, arguments.negatives))
            run = trained.run
            runs.append(
                {
                    "seed": seed,
                    "settings": run.settings,
                    "item_vectors": run.vectors.key if isinstance(run.vectors, Run) else run.vectors and "random",
                    "key": run.key,
                    "seconds": trained.seconds,
                    "validation": trained.best,
                    "curve": trained.curve,
                }
            )
        kind = planned[name, 0].kind if runs else "popularity"
        results[name] = {"model": words, "kind": kind, "test": summary(ranks[name]), "runs": runs}

    figures: dict[str, Any] = {"models": results, "users": len(tests["full"]), "items": len(items) - 2}
    sasrec, e4srec = (best_on_validation(results, kind) for kind in ("sasrec", "e4srec"))
    if sasrec is not None and e4srec is not None:
        figures["best E4SRec against best SASRec, both chosen on validation"] = {
            "e4srec": e4srec,
            "sasrec": sasrec,
            **{
                metric: paired_bootstrap(ranks[e4srec], ranks[sasrec], "seen hidden", metric)._asdict()
                for metric in ("hr@10", "ndcg@10")
            },
        }
    columns = COLUMNS + [("sampled negatives", m) for m in ("hr@1", "hr@10", "ndcg@10") if "sampled" in tests]
    table = markdown_table(results, columns)
    stem = f"quality-{arguments.dataset.stem.lower()}"
    settings = argparse.Namespace(
        dataset=arguments.dataset,
        negatives=arguments.negatives and Path(arguments.negatives).name,
        config=arguments.config.name,
        models=arguments.models,
        seeds=arguments.seeds,
        jobs=arguments.jobs,
        device=arguments.device,
        results=arguments.results,
    )
    written = write_result(stem, settings, figures)
    written.with_suffix(".md").write_text(table, encoding="utf-8")
    draw(results, written.with_suffix(".png"))
    print(table)


def load(arguments: argparse.Namespace) -> tuple[DatasetDict, dict[str, Dataset], PreTrainedTokenizerBase]:
    """The splits, the test targets by kind of ranking, and the item tokenizer."""
    sequences = load_sequences(str(arguments.dataset))
    items = build_item_tokenizer(catalogue(sequences))
    splits = leave_one_out(sequences)
    tests = {"full": splits["test"]}
    if arguments.negatives is not None:
        tests["sampled"] = with_sampled_negatives(
            splits["test"], arguments.negatives, sequences=sequences, items=item_catalogue(items), seed=0
        )
    return splits, tests, items


if __name__ == "__main__":
    main()
