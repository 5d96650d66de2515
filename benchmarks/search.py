"""Search for a recipe, on validation.

    python benchmarks/search.py --dataset Beauty.txt --search benchmarks/searches/beauty.yaml

The file gives the settings of train.py to start from, and a list of trials. A trial changes some of them: where it
gives a list of values, all combinations are tried. No run of a search ranks a test target, and nothing here reads one.
"""

import argparse
import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from measuring import RESULTS, write_result
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
        "key": trained.run.key,
    }


def main() -> None:
    """Run the trials, write and print the log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path, help="A text file: a line a user, user item item …")
    parser.add_argument("--search", required=True, type=Path, help="YAML: what to start from and what to try.")
    parser.add_argument("--seeds", type=int, default=1, help="How many seeds of each trial.")
    parser.add_argument("--jobs", type=int, help="Runs at a time; by default one a core, and one on an accelerator.")
    parser.add_argument("--cache", type=Path, default=Path("outputs/quality"), help="Where runs are kept.")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write the log to.")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    cuda = torch.cuda.is_available()
    jobs = arguments.jobs or (1 if cuda else os.cpu_count() or 1)
    search = yaml.safe_load(arguments.search.read_text(encoding="utf-8"))
    cache = arguments.cache.absolute()
    runs = [
        (trial, make_run(arguments.dataset.absolute(), search["start"], trial, seed, cache))
        for seed in range(arguments.seeds)
        for trial in combinations(search["trials"])
    ]
    finished = {}
    for trained in train_all([run for _, run in runs], cache, jobs):
        finished[trained.run.key] = trained
        logging.info(f"{trained.run.kind} {trained.run.key}: {trained.best}")
    log = [log_entry(trial, finished[run.key]) for trial, run in runs]
    settings = argparse.Namespace(
        dataset=arguments.dataset, device="cuda" if cuda else "cpu", results=arguments.results, start=search["start"]
    )
    write_result(f"search-{arguments.search.stem}", settings, {"trials": log})
    for entry in sorted(log, key=lambda entry: -entry["ndcg@10"]):
        print(f"{entry['ndcg@10']:.4f} {entry['hr@10']:.4f} {entry['kind']} {entry['changes'] or 'the start'}")


if __name__ == "__main__":
    main()
