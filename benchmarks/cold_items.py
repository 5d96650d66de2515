"""Recommend items that no user has touched yet, by their titles alone.

    e4srec prepare movielens u.data --metadata u.item --output data/ml-100k
    python benchmarks/cold_items.py --dataset data/ml-100k --base-model gemma-3-270m --twin gemma-3-270m-random \
        --encoder all-MiniLM-L6-v2 --genres u.item

A tenth of the items is taken out of a prepared data set, and SASRec is trained on what is left. Then the items are
added by their titles. Each time a user turned to one of them, it is ranked after what the user had before of the other
items: among all items, and among those that were taken out. ``--search`` takes out items that no reported draw holds,
and compares layers and poolings of the base on them.
"""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bases import described
from cold_methods import KeptVectors, added_by_titles, methods_of, read_genres
from cold_worlds import MAX_HISTORY, SASREC, make_world, ranks_of, user_vectors
from datasets import disable_progress_bars
from measuring import RESULTS, write_result
from numpy.typing import NDArray

from e4srec_hf.data.prepared import load_items

#: What each encoder is read with, where it is not the default: MiniLM was trained for the mean of its last layer.
READING: dict[str, dict[str, Any]] = {"encoder": {"layer": -1, "pooling": "mean"}}
METRICS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "hr@10": lambda ranks: (ranks <= 10).astype(float),
    "ndcg@10": lambda ranks: np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0),
    "mrr": lambda ranks: 1 / ranks,
}


def report(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Rank by every method over some draws: the figures, and a table of them."""
    titles = load_items(arguments.dataset)
    encoders = {
        kind: KeptVectors(getattr(arguments, kind), titles, arguments.cache, **READING.get(kind, {}))
        for kind in ("base_model", "twin", "encoder")
        if getattr(arguments, kind)
    }
    genres = read_genres(arguments.genres) if arguments.genres else {}
    found, targets, sizes = [], [], []
    for seed in range(arguments.seeds):
        world = make_world(arguments.dataset, seed, arguments.cache)
        found.append(methods_of(world, encoders, genres, seed))
        targets.append([turn.target for turn in world.turns])
        sizes.append(
            {"catalogue": len(world.items) - len(world.cold), "new": len(world.cold), "turns": len(targets[-1])}
        )
        print(f"seed {seed}: {sizes[-1]}", flush=True)
    table = with_intervals([of_seed["ranks"] for of_seed in found], targets)
    figures = {
        "protocol": "items held out of training; SASRec; all turns to held-out items; seen items hidden; ties against "
        "the target; intervals: 2,000 bootstrap samples of held-out items",
        "seeds": sizes,
        "methods": table,
        "fits": [of_seed["fits"] for of_seed in found],
        "test targets of the catalogue, before and after": [of_seed["costs"] for of_seed in found],
        "what a user sees": [of_seed["example"] for of_seed in found],
    }
    return figures, markdown_table(table)


def search(arguments: argparse.Namespace, depth: int) -> tuple[dict[str, Any], str]:
    """Compare layers and poolings of the base on the items for selection: the figures, and a table of them."""
    titles = load_items(arguments.dataset)
    world = make_world(arguments.dataset, None, arguments.cache)
    users = user_vectors(world.model, world.tokenizer, world.turns)
    rows = []
    for layer in sorted({1, *(max(depth * sixths // 6, 1) for sixths in range(1, 7))}):
        both = KeptVectors(arguments.base_model, titles, arguments.cache, layer=layer, pooling="both")
        last, mean = both.vectors.chunk(2, dim=1)
        for pooling, vectors in {"last": last, "mean": mean, "both": both.vectors}.items():
            both.vectors = vectors
            scores, fit, _, _ = added_by_titles(world, users, both)
            ndcg = {among: METRICS["ndcg@10"](ranks).mean() for among, ranks in ranks_of(world, scores).items()}
            rows.append({"layer": layer, "pooling": pooling, **(fit._asdict() if fit else {}), "ndcg@10": ndcg})
    lines = ["| layer | pooling | r2 held out | NDCG@10 among new | among all |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = [f"{number:.4f}" for number in (row["r2_held_out"], row["ndcg@10"]["cold"], row["ndcg@10"]["all"])]
        lines.append(f"| {row['layer']} | {row['pooling']} | {' | '.join(cells)} |")
    return {"turns": len(world.turns), "found": rows}, "\n".join(lines) + "\n"


def with_intervals(
    ranks: list[dict[str, dict[str, NDArray[np.float64]]]], targets: list[list[str]], resamples: int = 2000
) -> dict[str, Any]:
    """Means over all turns of all seeds with bootstrap 95% intervals over items, and differences from the base."""
    keys = [(seed, item) for seed, listed in enumerate(targets) for item in listed]
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    cluster = np.array([number[key] for key in keys])
    drawn = np.random.default_rng(0).multinomial(len(number), np.full(len(number), 1 / len(number)), size=resamples)
    sizes = drawn @ np.bincount(cluster)

    def interval(values: NDArray[np.float64]) -> dict[str, float]:
        means = drawn @ np.bincount(cluster, weights=values) / sizes
        low, high = np.percentile(means, [2.5, 97.5])
        return {"value": float(values.mean()), "low": float(low), "high": float(high)}

    def values_of(method: str, among: str, metric: str) -> NDArray[np.float64]:
        return np.concatenate([METRICS[metric](of_seed[method][among]) for of_seed in ranks])

    table: dict[str, Any] = {}
    for method in ranks[0]:
        table[method] = {}
        for among in ("cold", "all"):
            table[method][among] = {metric: interval(values_of(method, among, metric)) for metric in METRICS}
            if method != "ridge, base_model" and "ridge, base_model" in ranks[0]:
                ours = values_of("ridge, base_model", among, "ndcg@10")
                table[method][among]["ndcg@10 of the base minus this"] = interval(
                    ours - values_of(method, among, "ndcg@10")
                )
    return table


def markdown_table(table: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| | among new: HR@10 | NDCG@10 | MRR | among all: HR@10 | NDCG@10 | MRR |",
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for method, of_method in table.items():
        cells = [
            "{value:.4f} [{low:.4f}, {high:.4f}]".format(**of_method[among][metric])
            for among in ("cold", "all")
            for metric in METRICS
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path, help="A folder of e4srec prepare, with titles.")
    parser.add_argument(
        *("--base-model", "--base_model"), required=True, type=Path, help="A pretrained language model."
    )
    parser.add_argument("--base-name", "--base_name", help="What the result calls it; by default the folder's name.")
    parser.add_argument("--twin", type=Path, help="The same with random weights.")
    parser.add_argument("--encoder", type=Path, help="An encoder of sentences.")
    parser.add_argument("--genres", type=Path, help="u.item or movies.csv of MovieLens.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--search", action="store_true", help="Compare layers and poolings on items for selection.")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cold_items"), help="Where models are kept.")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    return parser.parse_args()


def main() -> None:
    """Train, add, rank, write."""
    arguments = parse_arguments()
    disable_progress_bars()
    base = described(arguments.base_model, arguments.base_name)
    figures, table = search(arguments, base["layers"]) if arguments.search else report(arguments)
    settings = argparse.Namespace(
        dataset=arguments.dataset,
        base=base,
        twin=arguments.twin and described(arguments.twin, f"{base['name']} with random weights"),
        encoder=arguments.encoder and described(arguments.encoder),
        seeds=arguments.seeds,
        sasrec=vars(SASREC),
        max_history=MAX_HISTORY,
        device="cpu",
        results=arguments.results,
    )
    files = {name: getattr(arguments, name) for name in ("dataset", "base_model", "twin", "encoder", "genres")}
    flags = [part for name, file in files.items() if file for part in (f"--{name}", file.name)]
    flags += ["--search"] if arguments.search else ["--seeds", str(arguments.seeds)]
    command = shlex.join(["python", "benchmarks/cold_items.py", *flags])
    name = f"cold_items-{'search-' * arguments.search}{arguments.dataset.name}"
    written = write_result(name, settings, {"command": command, **figures})
    written.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
