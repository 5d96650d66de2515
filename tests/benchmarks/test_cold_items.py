"""The benchmark of items that nobody has touched."""

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from e4srec_hf.data import catalogue_of
from e4srec_hf.data.demo import make_demo_world
from e4srec_hf.hub.datasets import save_dataset
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.benchmarks.running import load, run


def test_items_for_selection_are_in_no_draw_that_is_reported():
    cold_worlds = load("cold_worlds")
    titles = {f"i{n}": f"title {n}" if n % 5 else None for n in range(200)}
    selection = cold_worlds.hold_out(titles, None)
    draws = [cold_worlds.hold_out(titles, seed) for seed in range(3)]
    assert all(len(draw) == 16 and not set(draw) & set(selection) for draw in draws)
    assert all(titles[item] for draw in [selection, *draws] for item in draw)
    assert draws[0] != draws[1]
    assert cold_worlds.hold_out(titles, 0) == draws[0]


def test_a_new_item_is_ranked_after_the_other_items_that_came_before_it():
    cold_worlds = load("cold_worlds")
    turns = cold_worlds.turns_of({"item_ids": [["n1", "a", "b", "n2", "n1", "c", "n2"], ["b"]]}, ["n1", "n2", "n3"])
    assert [(turn.history, sorted(turn.seen), turn.target) for turn in turns] == [(["a", "b"], ["a", "b", "n1"], "n2")]
    items = ["a", "b", "c", "n1", "n2", "n3"]
    world = cold_worlds.World(None, None, None, {}, ["n1", "n2", "n3"], turns, items)
    ranks = cold_worlds.ranks_of(world, torch.tensor([[9.0, 9.0, 5.0, 9.0, 4.0, 4.0]]))
    assert ranks == {"all": [3.0], "cold": [2.0]}  # behind c and the tie n3; what was seen is hidden


def test_what_was_trained_without_items_is_used_again_for_the_same_data_alone(tmp_path, monkeypatch):
    cold_worlds = load("cold_worlds")
    trained = []

    def train(settings, training, *_, **__):
        trained.append(training.output_dir)
        Path(training.output_dir, "sasrec").mkdir(parents=True)
        Path(training.output_dir, "sasrec", "model.safetensors").touch()

    monkeypatch.setattr(cold_worlds, "train_sasrec", train)
    sequences = make_demo_world(n_users=20, n_items=30).sequences
    items = catalogue_of(sequences)
    for cold in ([items[0]], [items[1]], [items[0]]):
        cold_worlds.trained_without(cold_worlds.without(sequences, cold, "name"), tmp_path)
    assert len(set(trained)) == len(trained) == 2
    monkeypatch.setattr(cold_worlds.SASREC, "sasrec_epochs", 6)
    cold_worlds.trained_without(cold_worlds.without(sequences, items[:1], "name"), tmp_path)
    assert len(set(trained)) == len(trained) == 3


@pytest.mark.slow
def test_new_items_are_ranked_by_titles_and_layers_are_compared(tmp_path):
    world = make_demo_world(n_users=60, n_items=60)
    save_dataset(world.sequences, tmp_path / "books", titles=world.titles)
    base = make_tiny_base(tmp_path / "tiny", hidden_size=32)
    flags = [
        "--dataset",
        tmp_path / "books",
        "--base-model",
        base,
        "--base-name",
        "Tiny",
        "--cache",
        tmp_path / "cache",
    ]
    found = run("cold_items", *flags, "--seeds", 1, "--twin", base, results=tmp_path / "results")
    assert found["settings"]["base"]["name"] == "Tiny"
    assert found["settings"]["twin"]["name"] == "Tiny with random weights"
    command = "python benchmarks/cold_items.py --dataset books --base_model tiny --twin tiny --seeds 1"
    assert found["command"] == command
    assert found["methods"]["ridge, twin"] != found["methods"]["random"]
    assert found["methods"]["ridge, twin"]["cold"]["mrr"] == found["methods"]["ridge, base_model"]["cold"]["mrr"]
    searched = run("cold_items", *flags, "--search", results=tmp_path / "search")["found"]
    assert [(row["layer"], row["pooling"]) for row in searched] == [
        (layer, pooling) for layer in (1, 2) for pooling in ("last", "mean", "both")
    ]
    assert len({row["r2_held_out"] for row in searched}) == 6


def test_the_interval_of_new_items_is_that_of_their_means():
    cold_items = load("cold_items")
    generator = np.random.default_rng(0)
    own = generator.integers(1, 40, size=200)  # an item with four turns at one rank: no more than one observation
    ranks = {
        name: {"cold": np.repeat(own + more, 4).astype(float), "all": np.repeat(own, 4).astype(float)}
        for name, more in (("ridge, base_model", 0), ("random", 5))
    }
    table = cold_items.with_intervals([ranks], [[f"i{n}" for n in range(200) for _ in range(4)]])
    found, values = table["ridge, base_model"]["cold"]["mrr"], 1 / own
    assert found["value"] == pytest.approx(values.mean())
    width = 2 * NormalDist().inv_cdf(0.975) * values.std() / 200**0.5
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.1)
    gain = table["random"]["cold"]["ndcg@10 of the base minus this"]
    assert gain["value"] > 0
    assert gain["low"] > 0
    assert table["random"]["all"]["ndcg@10 of the base minus this"]["value"] == 0
