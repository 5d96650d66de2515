r"""Search for a recipe, on validation.

    python benchmarks/search.py --dataset Beauty.txt --search benchmarks/searches/beauty.yaml
    python benchmarks/search.py --dataset Beauty.txt --search benchmarks/searches/beauty-pretrained.yaml \
        --base-model gemma-3-270m --base-name "Gemma 3 270M"

The file gives the settings of train.py to start from, and a list of trials. A trial changes some of them: where it
gives a list of values, all combinations are tried. No run of a search ranks a test target, and nothing here reads one.
"""

import argparse
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from bases import described
from command_line import add_arguments, check_arguments
from measuring import write_result
from runs import Trained, make_run, train_all


def combinations(trials: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What each trial changes, each once."""
    seen = []
    for grid in trials:
        values = [value if isinstance(value, list) else [value] for value in grid.values()]
        for combination in itertools.product(*values):
            trial = dict(zip(grid, combination, strict=True))
            if trial not in seen:
                seen.append(trial)
                yield trial


def log_entry(trial: dict[str, Any], trained: Trained) -> dict[str, Any]:
    """What the log says of a trial."""
    return {
        "changes": trial,
        "kind": trained.run.kind,
        "seed": trained.run.seed,
        **{name: trained.best[name] for name in ("ndcg@10", "hr@10", "epoch")},
        "seconds": trained.seconds,
        "code": trained.code,
        "key": trained.run.key,
    }


def main() -> None:
    """Run the trials, write and print the log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, seeds=1)
    parser.add_argument("--search", required=True, type=Path, help="YAML: what to start from and what to try.")
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    if not arguments.search.is_file():
        parser.error(f"there is no file {arguments.search}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    search = yaml.safe_load(arguments.search.read_text(encoding="utf-8"))
    runs = [
        (trial, make_run(arguments.dataset, search["start"], trial, seed, arguments.cache, arguments.base_model))
        for seed in range(arguments.seeds)
        for trial in combinations(search["trials"])
    ]
    finished = {}
    for trained in train_all([run for _, run in runs], arguments.cache, arguments.jobs):
        finished[trained.run.key] = trained
        logging.info(f"{trained.run.kind} {trained.run.key}: {trained.best}")
    log = [log_entry(trial, finished[run.key]) for trial, run in runs]
    settings = argparse.Namespace(
        dataset=arguments.dataset,
        base=arguments.base_model and described(arguments.base_model, arguments.base_name),
        device=arguments.device,
        results=arguments.results,
        start=search["start"],
    )
    write_result(f"search-{arguments.search.stem}", settings, {"trials": log})
    for entry in sorted(log, key=lambda entry: -entry["ndcg@10"]):
        print(f"{entry['ndcg@10']:.4f} {entry['hr@10']:.4f} {entry['kind']} {entry['changes'] or 'the start'}")


if __name__ == "__main__":
    main()
