"""Ranks of the test targets, kept beside the runs and, of what is not trained, in the cache."""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from runs import Trained, digest
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from e4srec_hf import evaluation
from e4srec_hf.evaluation import PopularityModel, best_ease, best_item_transitions, evaluate_ranking, mean_metrics

#: Protocol to the rank of each test target.
Ranks = dict[str, NDArray[np.float64]]
#: A model, and the settings that were chosen on validation with its figures there.
Fitted = tuple[torch.nn.Module, dict[str, float]]

BASELINES: dict[str, Callable[[DatasetDict, PreTrainedTokenizerBase, str], Fitted]] = {
    "popularity": lambda splits, items, _: (PopularityModel(splits["train"]["item_ids"], items), {}),
    "ease": lambda splits, items, device: best_ease(splits["train"], splits["validation"], items, device),
    "item-transitions": lambda splits, items, device: best_item_transitions(
        splits["train"], splits["validation"], items, device
    ),
}


def rank(model: torch.nn.Module, items: PreTrainedTokenizerBase, tests: dict[str, Dataset]) -> Ranks:
    """Ranks of the test targets."""
    ranks = {
        f"seen {'hidden' if hide else 'kept'}": evaluate_ranking(model, tests["full"], items, exclude_seen=hide).ranks
        for hide in (True, False)
    }
    if "sampled" in tests:
        ranks["sampled negatives"] = evaluate_ranking(model, tests["sampled"], items).ranks
    return ranks


def rank_trained(trained: Trained, tests: dict[str, Dataset], arguments: argparse.Namespace) -> Ranks:
    """As [`rank`], kept beside the run."""
    path = trained.folder / f"test_ranks-{_ranking_digest()}{_negatives(arguments)}.npz"
    if not path.is_file():
        items = AutoTokenizer.from_pretrained(trained.folder)
        _keep(path, rank(AutoModel.from_pretrained(trained.folder).to(arguments.device), items, tests))
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def rank_baseline(
    name: str,
    splits: DatasetDict,
    tests: dict[str, Dataset],
    items: PreTrainedTokenizerBase,
    arguments: argparse.Namespace,
) -> tuple[Ranks, dict[str, Any]]:
    """As [`rank`], kept in the cache, and what the result says of how it was fitted."""
    data = digest(arguments.dataset)[:16]
    path = arguments.cache / f"{name}-{data}-{_ranking_digest()}{_negatives(arguments)}.npz"
    if not path.is_file():
        begin = time.perf_counter()
        model, chosen = BASELINES[name](splits, items, arguments.device)
        seconds = time.perf_counter() - begin
        validation = {metric: chosen.pop(metric) for metric in ("hr@10", "ndcg@10") if metric in chosen}
        described = {"settings": chosen, "validation": validation, "curve": [], "seconds": seconds}
        path.parent.mkdir(parents=True, exist_ok=True)
        ranks = rank(model.to(arguments.device), items, tests)
        _keep(path, {**ranks, "described": np.array(json.dumps(described))})
    with np.load(path, allow_pickle=False) as stored:
        ranks = dict(stored)
    return ranks, json.loads(str(ranks.pop("described")))


@lru_cache
def _ranking_digest() -> str:
    """Of the code that ranks and of the baselines. Training may change without a run being ranked again."""
    files = sorted(Path(evaluation.__file__).parent.glob("*.py"))
    return hashlib.sha256("".join(map(digest, files)).encode()).hexdigest()[:16]


def _negatives(arguments: argparse.Namespace) -> str:
    """What kept ranks bear in their name: which negatives were ranked too."""
    return "" if arguments.negatives is None else f"-{digest(Path(arguments.negatives))[:16]}"


def _keep(path: Path, arrays: dict[str, Any]) -> None:
    """Write a file of arrays, whole or not at all."""
    part = path.with_name(f".{path.name}.part.npz")
    np.savez(part, **arrays)
    part.replace(path)


def summary(ranks: list[Ranks]) -> dict[str, dict[str, dict[str, Any]]]:
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
