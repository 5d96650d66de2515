"""Train and compare popularity, EASE, item transitions, SASRec and E4SRec under one protocol, over several seeds.

    python benchmarks/quality.py --dataset Beauty.txt --seeds 3
    python benchmarks/quality.py --dataset Beauty.txt --models sasrec-best,e4srec-best --seeds 1
    python benchmarks/quality.py --dataset ml-100k --base-model gemma-3-270m --base-name "Gemma 3 270M"
    python benchmarks/quality.py --dataset demo-400 --models sasrec-default,e4srec-default --seeds 1

Leave-one-out, full ranking. Epochs are selected on validation, as the recipes were by `benchmarks/search.py`. Test
targets are ranked here, once a recipe is fixed; no flag changes a setting. Finished runs are kept by their settings and
read again; a run that was interrupted goes on from its last epoch.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bases import described as described_base
from bases import random_twin
from command_line import add_arguments, check_arguments
from datasets import Dataset, DatasetDict, disable_progress_bars
from measuring import write_result
from quality_models import IN_THE_PAPER_FOR, MODELS
from quality_ranks import Ranks, rank_baseline, rank_trained, summary
from quality_report import difference_table, draw, markdown_table, paired_bootstrap
from runs import Run, Trained, make_run, read_recipe, train_all
from transformers import PreTrainedTokenizerBase

from e4srec_hf.data import (
    build_item_tokenizer,
    catalogue_of,
    item_catalogue,
    leave_one_out,
    load_sequences,
    with_sampled_negatives,
)
from e4srec_hf.evaluation import ease

CONFIGS = Path(__file__).parent.parent / "examples" / "configs"
#: Rows on the pretrained base; the first that is there is compared with every other row.
PRETRAINED = ("e4srec-pretrained", "e4srec-default-pretrained")
#: Columns of the table: protocol and metric.
COLUMNS = [
    ("seen hidden", "hr@5"),
    ("seen hidden", "hr@10"),
    ("seen hidden", "ndcg@5"),
    ("seen hidden", "ndcg@10"),
    ("seen kept", "hr@10"),
    ("seen kept", "ndcg@10"),
]


def best_on_validation(results: dict[str, dict[str, Any]], family: str) -> str | None:
    """The model of a family, ``sasrec-…`` or ``e4srec-…``, with the highest mean NDCG@10 on validation."""
    means = {
        name: np.mean([run["validation"]["ndcg@10"] for run in result["runs"]])
        for name, result in results.items()
        if name.startswith(f"{family}-")
    }
    return max(means, key=lambda name: means[name]) if means else None


def compare(results: dict[str, dict[str, Any]], ranks: dict[str, list[Ranks]]) -> dict[str, Any]:
    """Every E4SRec against the best SASRec, the pretrained base against every other model; the best on validation."""
    sasrec, e4srec = (best_on_validation(results, family) for family in ("sasrec", "e4srec"))

    def difference(ours: str, theirs: str) -> dict[str, Any]:
        return {
            metric: paired_bootstrap(ranks[ours], ranks[theirs], "seen hidden", metric)._asdict()
            for metric in ("hr@10", "ndcg@10")
        }

    found: dict[str, Any] = {}
    if sasrec is not None and e4srec is not None:
        found |= {"best_sasrec_on_validation": sasrec, "best_e4srec_on_validation": e4srec}
        found["difference_from_best_sasrec"] = {
            name: difference(name, sasrec) for name, result in results.items() if result["kind"] == "e4srec"
        }
    pretrained = next((name for name in PRETRAINED if name in results), None)
    if pretrained is not None and len(results) > 1:
        found["difference_of_pretrained_from"] = {
            name: difference(pretrained, name) for name in results if name != pretrained
        }
    return found


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, seeds=3)
    parser.add_argument("--config", type=Path, help="The recipe; by default the one in examples/configs of that name.")
    parser.add_argument(
        *("--pretrained-config", "--pretrained_config"),
        type=Path,
        help="The recipe on the pretrained base and its twin; by default NAME-pretrained.yaml in examples/configs.",
    )
    parser.add_argument("--negatives", help="Rank among these too: a file, a line a user: user negative …")
    parser.add_argument(
        "--models", help=f"Of these, by default all with a recipe that can be had: {', '.join(MODELS)}."
    )
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    on_base = [name for name, model in MODELS.items() if model.base != "made"]
    by_default = [name for name in MODELS if MODELS[name].recipe and (arguments.base_model or name not in on_base)]
    arguments.models = arguments.models.split(",") if arguments.models else by_default
    if unknown := sorted(set(arguments.models) - set(MODELS)):
        parser.error(f"there is no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if arguments.base_model is None and (wanting := sorted(set(arguments.models) & set(on_base))):
        parser.error(f"{', '.join(wanting)} need a pretrained base: name one with --base-model")
    name = arguments.dataset.stem.lower()
    arguments.config = arguments.config or CONFIGS / f"{name}.yaml"
    arguments.pretrained_config = arguments.pretrained_config or CONFIGS / f"{name}-pretrained.yaml"
    of_recipes = [name for name in arguments.models if MODELS[name].trained and MODELS[name].recipe]
    needed = {recipe_of(arguments, name): flag_of_recipe(name) for name in of_recipes}
    for recipe, flag in needed.items():
        if not recipe.is_file():
            parser.error(f"there is no recipe {recipe}: name one with {flag}")
    if arguments.negatives is not None and not Path(arguments.negatives).is_file():
        parser.error(f"there is no file {arguments.negatives}")
    return arguments


def flag_of_recipe(model: str) -> str:
    """The flag that names the recipe of a model."""
    return "--config" if MODELS[model].base == "made" else "--pretrained-config"


def recipe_of(arguments: argparse.Namespace, model: str) -> Path:
    """The recipe of a model."""
    return arguments.config if flag_of_recipe(model) == "--config" else arguments.pretrained_config


def plan(arguments: argparse.Namespace) -> dict[tuple[str, int], Run]:
    """Model and seed to the run that it takes."""
    planned = {}
    for name in arguments.models:
        model = MODELS[name]
        if not model.trained:
            continue
        recipe, changes = read_recipe(recipe_of(arguments, name)) if model.recipe else {}, model.changes
        if name == "e4srec-paper":
            changes = changes | IN_THE_PAPER_FOR.get(arguments.dataset.stem.lower(), {})
        for seed in range(arguments.seeds):
            base = arguments.base_model if model.base == "given" else None
            if model.base == "twin":
                base = random_twin(arguments.base_model, seed, arguments.cache)
            planned[name, seed] = make_run(arguments.dataset, recipe, changes, seed, arguments.cache, base)
    return planned


def main() -> None:
    """Train what is missing, rank, compare, write."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    disable_progress_bars()
    splits, tests, items = load(arguments)
    if "ease" in arguments.models and len(items) > ease.MOST_ITEMS:
        sys.exit(f"EASE weighs every item against every other: {len(items)} are too many. Leave it out of --models.")
    planned = plan(arguments)
    finished: dict[str, Trained] = {}
    for trained in train_all(planned.values(), arguments.cache, arguments.jobs):
        finished[trained.run.key] = trained
        logging.info(f"{trained.run.kind} {trained.run.key}: {trained.best}")

    torch.set_num_threads(arguments.jobs)
    base = arguments.base_model and described_base(arguments.base_model, arguments.base_name)
    results: dict[str, dict[str, Any]] = {}
    ranks: dict[str, list[Ranks]] = {}
    for name in arguments.models:
        of_seeds = [finished[run.key] for (model, _), run in planned.items() if model == name]
        if of_seeds:
            ranks[name] = [rank_trained(trained, tests, arguments) for trained in of_seeds]
            runs = [describe(trained) for trained in of_seeds]
        else:
            of_baseline, fitted = rank_baseline(name, splits, tests, items, arguments)
            ranks[name], runs = [of_baseline], [fitted]
        results[name] = {
            "model": MODELS[name].label.format(base=base and base["name"]),
            "kind": of_seeds[0].run.kind if of_seeds else "baseline",
            "test": summary(ranks[name]),
            "runs": runs,
        }
    columns = COLUMNS + [("sampled negatives", m) for m in ("hr@1", "hr@10", "ndcg@10") if "sampled" in tests]
    on_base = any(MODELS[name].base != "made" for name in arguments.models)
    with_recipe = any(MODELS[name].trained and MODELS[name].recipe for name in arguments.models)
    settings = argparse.Namespace(
        dataset=arguments.dataset,
        negatives=arguments.negatives and Path(arguments.negatives).name,
        **({"config": arguments.config.name} if with_recipe else {}),
        **({"pretrained_config": arguments.pretrained_config.name} if with_recipe and on_base else {}),
        **({"base": base} if on_base else {}),
        models=arguments.models,
        seeds=arguments.seeds,
        device=arguments.device,
        results=arguments.results,
    )
    compared = compare(results, ranks)
    figures: dict[str, Any] = {"models": results, "users": len(tests["full"]), "items": len(items) - 2}
    table = markdown_table(results, columns)
    if "difference_of_pretrained_from" in compared:
        table += "\n" + difference_table(results, compared["difference_of_pretrained_from"])
    kind = "quality" if with_recipe else "defaults"
    written = write_result(f"{kind}-{arguments.dataset.stem.lower()}", settings, figures | compared)
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
