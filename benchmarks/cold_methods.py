"""Ways to rank items that nobody has touched: by their titles, by their genres, and at random."""

import copy
import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bases import base_digest
from cold_worlds import World, ranks_of, user_vectors
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from e4srec_hf.catalogue import HeadFit, add_items
from e4srec_hf.data import text_vectors
from e4srec_hf.evaluation import evaluate_ranking
from e4srec_hf.modeling.histories import FIRST_ITEM_ID


class KeptVectors:
    """Vectors of titles, read once and kept in a file.

    Args:
        base_model: What reads them.
        titles: Item to title.
        cache: Folder of the file.
        reading: ``layer`` and ``pooling`` of `text_vectors`, where they are not the default.
    """

    def __init__(self, base_model: Path, titles: dict[str, str | None], cache: Path, **reading: Any) -> None:
        listed = sorted({title for title in titles.values() if title} | {"untitled"})
        content = json.dumps([listed, base_digest(base_model), reading], sort_keys=True)
        path = cache / f"titles-{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            save_file({"vectors": text_vectors(listed, base_model, **reading).contiguous()}, part)
            part.replace(path)
        self.rows, self.vectors = {title: row for row, title in enumerate(listed)}, load_file(path)["vectors"]

    def __call__(self, titles: list[str]) -> Tensor:
        """``(titles, width)``."""
        return self.vectors[[self.rows[title] for title in titles]]


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
