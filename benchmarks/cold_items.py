"""Recommend items that no user has touched yet, by their titles alone.

    e4srec prepare movielens u.data --metadata u.item --output data/ml-100k
    python benchmarks/cold_items.py --dataset data/ml-100k --base_model gemma-3-270m --twin gemma-3-270m-random \
        --encoder all-MiniLM-L6-v2 --genres u.item

A tenth of the items is taken out of a prepared data set, and SASRec is trained on what is left. Then the items are
added by their titles. Each time a user turned to one of them, it is ranked after what the user had before of the other
items: among all items, and among those that were taken out. ``--selection`` takes out other items than those that are
reported: choose there.
"""

import argparse
import copy
import csv
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bases import base_digest
from datasets import Dataset, disable_progress_bars
from measuring import RESULTS, write_result
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase, TrainingArguments

from e4srec_hf import SASRecModel
from e4srec_hf.catalogue import HeadFit, add_items
from e4srec_hf.data import build_item_tokenizer, text_vectors, tokenize_histories
from e4srec_hf.data.opening import TrainingData, from_sequences
from e4srec_hf.data.prepared import load_items, load_split
from e4srec_hf.data.sequences import SEQUENCE_FEATURES
from e4srec_hf.evaluation import evaluate_ranking
from e4srec_hf.modeling.histories import FIRST_ITEM_ID
from e4srec_hf.training.arguments import DataArguments, SASRecArguments
from e4srec_hf.training.sasrec import train_sasrec
from e4srec_hf.training.trainer import SELECT_ON_VALIDATION

MAX_HISTORY = 50
SASREC = SASRecArguments(sasrec_batch_size=32, sasrec_epochs=5, sasrec_learning_rate=2e-3)
#: What each encoder is read with, where it is not the default: MiniLM was trained for the mean of its last layer.
READING: dict[str, dict[str, Any]] = {"encoder": {"layer": -1, "pooling": "mean"}}
METRICS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "hr@10": lambda ranks: (ranks <= 10).astype(float),
    "ndcg@10": lambda ranks: np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0),
    "mrr": lambda ranks: 1 / ranks,
}


class Turn(NamedTuple):
    """A user turns to an item that was taken out."""

    history: list[str]  # what the user had before of the other items
    seen: list[str]  # and of those that were taken out
    target: str


class World(NamedTuple):
    """A data set without some items, and a model of the others."""

    data: TrainingData
    model: SASRecModel
    tokenizer: PreTrainedTokenizerBase
    titles: dict[str, str]
    cold: list[str]
    turns: list[Turn]
    items: list[str]  # the catalogue, then those that were taken out


def hold_out(titles: dict[str, str | None], seed: int | None) -> list[str]:
    """A tenth of the items that have a title. Those without a seed are for selection, and in no other draw."""
    items = [item for item, title in titles.items() if title]
    order = np.random.default_rng(12345).permutation(len(items))
    count = len(items) // 10
    drawn = order[:count] if seed is None else np.random.default_rng(seed).choice(order[count:], count, replace=False)
    return [items[place] for place in sorted(drawn)]


def without(sequences: Dataset, cold: list[str], name: str) -> TrainingData:
    """The data set without some items, split leave-one-out."""
    left_out = set(cold)
    rows = [
        {"user_id": row["user_id"], "item_ids": left}
        for row in sequences
        if len(left := [item for item in row["item_ids"] if item not in left_out]) >= 3
    ]
    return from_sequences(Dataset.from_list(rows, features=SEQUENCE_FEATURES), name, "without the items held out")


def trained_without(data: TrainingData, folder: Path) -> Path:
    """The folder of a SASRec that was trained on a data set; what is there is used again."""
    if not (folder / "sasrec" / "model.safetensors").is_file():
        training = TrainingArguments(
            str(folder),
            seed=0,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            per_device_eval_batch_size=128,
            logging_strategy="epoch",
            lr_scheduler_type="cosine",
            restore_callback_states_from_checkpoint=True,
            **SELECT_ON_VALIDATION,
        )
        tokenizer = build_item_tokenizer(data.items)
        train_sasrec(SASREC, training, DataArguments(all_targets=True), data, tokenizer, max_history=MAX_HISTORY)
    return folder / "sasrec"


def turns_of(sequences: Dataset, cold: list[str]) -> list[Turn]:
    """Every time that a user turns to a held-out item after an item of the catalogue, the first time for each."""
    left_out, turns = set(cold), []
    for items in sequences["item_ids"]:
        history: list[str] = []
        seen: list[str] = []
        for item in items:
            if item not in left_out:
                history.append(item)
            elif item not in seen:
                if history:
                    turns.append(Turn(history[-MAX_HISTORY:], [*set(history), *seen], item))
                seen.append(item)
    return turns


def make_world(arguments: argparse.Namespace, seed: int | None) -> World:
    """Take items out, and train on the others."""
    source = arguments.dataset
    titles = load_items(source)
    cold = hold_out(titles, seed)
    sequences = load_split(source, "", "train")
    data = without(sequences, cold, Path(source).name)
    folder = trained_without(data, arguments.cache / f"{Path(source).name}-{seed}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    items = [*tokenizer.convert_ids_to_tokens(list(range(FIRST_ITEM_ID, len(tokenizer)))), *cold]
    known = {item: title for item, title in titles.items() if title}
    model = AutoModel.from_pretrained(folder)
    return World(data, model, tokenizer, known, cold, turns_of(sequences, cold), items)


@torch.no_grad()
def user_vectors(model: SASRecModel, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> Tensor:
    """``(turns, width)``."""
    found = []
    for start in range(0, len(turns), 512):
        batch = tokenize_histories(tokenizer, [turn.history for turn in turns[start : start + 512]])
        found.append(model.history_vectors(*model.known_histories(batch["input_ids"], batch["attention_mask"])))
    return torch.cat(found)


def ranks_of(world: World, scores: Tensor) -> dict[str, NDArray[np.float64]]:
    """Ranks of the targets by ``(turns, items)`` scores, what was seen hidden; a tie counts against the target."""
    place = {item: column for column, item in enumerate(world.items)}
    scores = scores.clone()
    own = scores[torch.arange(len(scores)), [place[turn.target] for turn in world.turns]]
    for row, turn in enumerate(world.turns):
        scores[row, [place[item] for item in turn.seen]] = -torch.inf
    ahead = scores >= own[:, None]
    return {
        "all": ahead.sum(dim=1).double().numpy(),
        "cold": ahead[:, -len(world.cold) :].sum(dim=1).double().numpy(),
    }


def added_by_titles(
    world: World, users: Tensor, encode: Callable[[list[str]], Tensor]
) -> tuple[Tensor, HeadFit | None, Any, Any]:
    """Scores of all items, the fit, and the model and tokenizer with the new items."""
    model = copy.deepcopy(world.model)
    titles = [world.titles[item] for item in world.cold]
    grown, fit = add_items(
        model, world.tokenizer, world.cold, titles=titles, catalogue_titles=world.titles, encode=encode
    )
    return users @ model.item_embeddings.weight.detach()[FIRST_ITEM_ID:].T, fit, model, grown


def nearest_titles(world: World, encode: Callable[[list[str]], Tensor]) -> Tensor:
    """Cosine of each item with the mean of the history, of vectors in standard scores."""
    vectors = encode([world.titles.get(item, "untitled") for item in world.items])
    vectors = F.normalize((vectors - vectors.mean(dim=0)) / vectors.std(dim=0).clamp_min(1e-6), dim=1)
    place = {item: row for row, item in enumerate(world.items)}
    users = torch.stack([vectors[[place[item] for item in turn.history]].mean(dim=0) for turn in world.turns])
    return users @ vectors.T


def genre_popularity(world: World, genres: dict[str, Tensor]) -> Tensor:
    """Items of the catalogue by how often they occur, new ones by the mean of their genres."""
    counts = dict.fromkeys(world.items, 0.0)
    for items in world.data.train["item_ids"]:
        for item in items:
            counts[item] += 1
    flags = torch.stack([genres[item] for item in world.items])  # (items, genres)
    own = torch.tensor([counts[item] for item in world.items])
    warm, known = own[: -len(world.cold)], flags[: -len(world.cold)]
    of_genre = (warm @ known) / known.sum(dim=0).clamp_min(1)
    told = (flags @ of_genre) / flags.sum(dim=1).clamp_min(1)
    return torch.cat([warm, told[-len(world.cold) :]]).expand(len(world.turns), -1)


def read_genres(path: Path) -> dict[str, Tensor]:
    """Item to 0 or 1 for each genre, from ``u.item`` or ``movies.csv`` of MovieLens."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["movieId"], row["genres"].split("|")) for row in csv.DictReader(file)]
        names = sorted({name for _, listed in rows for name in listed})
        return {item: torch.tensor([float(name in listed) for name in names]) for item, listed in rows}
    lines = path.read_text(encoding="latin-1").splitlines()
    return {(fields := line.split("|"))[0]: torch.tensor([float(flag) for flag in fields[5:]]) for line in lines}


class KeptVectors:
    """Vectors of titles, read once and kept in a file."""

    def __init__(self, kind: str, base_model: Path, titles: dict[str, str | None], cache: Path) -> None:
        listed = sorted({title for title in titles.values() if title} | {"untitled"})
        of_titles = hashlib.sha256("\n".join(listed).encode()).hexdigest()
        path = cache / f"titles-{of_titles[:16]}-{base_digest(base_model)[:16]}-{kind}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            save_file({"vectors": text_vectors(listed, base_model, **READING.get(kind, {})).contiguous()}, part)
            part.replace(path)
        self.rows, self.vectors = {title: row for row, title in enumerate(listed)}, load_file(path)["vectors"]

    def __call__(self, titles: list[str]) -> Tensor:
        """``(titles, width)``."""
        return self.vectors[[self.rows[title] for title in titles]]


def methods_of(world: World, encoders: dict[str, KeptVectors], genres: dict[str, Tensor], seed: int) -> dict[str, Any]:
    """Ranks by each method, the fits, what the new items cost the others, and what a user sees."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(world.turns), len(world.items)
    ranks = {"random": ranks_of(world, torch.rand(shape, generator=generator))}
    fits, costs, example = {}, {}, None
    users = user_vectors(world.model, world.tokenizer, world.turns)
    before = evaluate_ranking(world.model, world.data.test, world.tokenizer).metrics
    costs["before"] = {name: before[name].value for name in ("hr@10", "ndcg@10")}
    ways: dict[str, Callable[[list[str]], Tensor]] = dict(encoders)
    if genres:
        by_title = {world.titles[item]: genres[item] for item in world.titles}
        ranks["popularity of the genre"] = ranks_of(world, genre_popularity(world, genres))
        ways["genres"] = lambda titles: torch.stack([by_title[title] for title in titles])
    for name, encode in ways.items():
        if name in encoders:
            ranks[f"nearest title, {name}"] = ranks_of(world, nearest_titles(world, encode))
        scores, fit, model, grown = added_by_titles(world, users, encode)
        ranks[f"ridge, {name}"] = ranks_of(world, scores)
        after = evaluate_ranking(model, world.data.test, grown).metrics
        fits[name] = fit._asdict() if fit else None
        costs[name] = {metric: after[metric].value for metric in ("hr@10", "ndcg@10")}
        if name == "base_model":
            example = example_of(world, scores, ranks["ridge, base_model"]["all"])
    return {"ranks": ranks, "fits": fits, "costs": costs, "example": example}


def example_of(world: World, scores: Tensor, ranks: NDArray[np.float64]) -> dict[str, Any] | None:
    """Ten recommendations for the first turn whose target is among them."""
    hits = np.flatnonzero(ranks <= 10)
    if not len(hits):
        return None
    turn, own = world.turns[hits[0]], scores[hits[0]].clone()
    place = {item: column for column, item in enumerate(world.items)}
    own[[place[item] for item in turn.seen]] = -torch.inf
    best = [world.items[column] for column in own.topk(10).indices.tolist()]
    return {
        "last five": [world.titles.get(item, item) for item in turn.history[-5:]],
        "recommended": [world.titles.get(item, item) + " (new)" * (item in world.cold) for item in best],
        "turned to": world.titles[turn.target],
    }


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
    parser.add_argument("--dataset", required=True, help="A folder of e4srec prepare, with titles.")
    parser.add_argument("--base_model", required=True, help="A pretrained language model.")
    parser.add_argument("--twin", help="The same with random weights.")
    parser.add_argument("--encoder", help="An encoder of sentences.")
    parser.add_argument("--genres", type=Path, help="u.item or movies.csv of MovieLens.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--selection", action="store_true", help="Take out the items that are for selection.")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cold_items"), help="Where models are kept.")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    return parser.parse_args()


def main() -> None:
    """Train, add, rank, write."""
    arguments = parse_arguments()
    disable_progress_bars()
    name = Path(arguments.dataset).name
    titles = load_items(arguments.dataset)
    encoders = {
        kind: KeptVectors(kind, Path(getattr(arguments, kind)), titles, arguments.cache)
        for kind in ("base_model", "twin", "encoder")
        if getattr(arguments, kind)
    }
    genres = read_genres(arguments.genres) if arguments.genres else {}
    found, targets, sizes = [], [], []
    for seed in [None] if arguments.selection else range(arguments.seeds):
        world = make_world(arguments, seed)
        found.append(methods_of(world, encoders, genres, seed or 0))
        targets.append([turn.target for turn in world.turns])
        sizes.append(
            {"catalogue": len(world.items) - len(world.cold), "new": len(world.cold), "turns": len(targets[-1])}
        )
        print(f"seed {seed}: {sizes[-1]}", flush=True)
    table = with_intervals([of_seed["ranks"] for of_seed in found], targets)
    settings = argparse.Namespace(
        dataset=arguments.dataset,
        base=Path(arguments.base_model).name,
        **{kind: Path(getattr(arguments, kind)).name for kind in encoders if kind != "base_model"},
        genres=arguments.genres and arguments.genres.name,
        seeds=arguments.seeds,
        selection=arguments.selection,
        sasrec=vars(SASREC),
        max_history=MAX_HISTORY,
        device="cpu",
        results=arguments.results,
    )
    figures = {
        "command": "python benchmarks/cold_items.py --dataset … --base_model … --twin … --encoder … --genres …",
        "protocol": "items held out of training; SASRec; all turns to held-out items; seen items hidden; ties against "
        "the target; intervals: 2,000 bootstrap samples of held-out items",
        "seeds": sizes,
        "methods": table,
        "fits": [of_seed["fits"] for of_seed in found],
        "test targets of the catalogue, before and after": [of_seed["costs"] for of_seed in found],
        "what a user sees": [of_seed["example"] for of_seed in found],
    }
    written = write_result(f"cold_items-{name}" + "-selection" * arguments.selection, settings, figures)
    written.with_suffix(".md").write_text(markdown_table(table), encoding="utf-8")
    print(markdown_table(table))


if __name__ == "__main__":
    main()
