"""Bases that benchmarks stand on, and how well each starts."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from e4srec_hf import E4SRecModel
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.benchmarks.running import load, run


def test_a_twin_has_the_shape_and_the_tokenizer_of_its_base_and_weights_of_its_seed(tmp_path):
    bases = load("bases")
    base = Path(make_tiny_base(tmp_path / "base", hidden_size=32, seed=7))
    first, again, other = (bases.random_twin(base, seed, tmp_path / "cache") for seed in (0, 0, 1))
    assert first == again != other
    assert first.is_relative_to(tmp_path / "cache")
    weights = [load_file(folder / "model.safetensors") for folder in (base, first, other)]
    assert weights[0].keys() == weights[1].keys() == weights[2].keys()
    for name in weights[0]:
        if name.endswith("_proj.weight"):
            assert weights[0][name].shape == weights[1][name].shape
            assert len({w[name].sum().item() for w in weights}) == 3
    text = "The reader had: a book"
    assert len({tuple(AutoTokenizer.from_pretrained(folder)(text).input_ids) for folder in (base, first)}) == 1
    described = [bases.described(folder) for folder in (base, first)]
    assert described[0]["sha256"] != described[1]["sha256"]
    assert [found.pop("hidden_size") for found in described] == [32, 32]


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_a_small_base_of_a_family_can_carry_an_adapter(family, tmp_path):
    folder = load("starts").small_base(family, tmp_path)
    model = E4SRecModel.from_base(folder, torch.randn(12, 8))
    assert model(torch.tensor([[2, 5, 7]])).logits.shape == (1, 12)
    assert load("bases").described(folder)["model_type"] == family


def test_the_table_of_starts_sets_what_is_best_beside_what_nothing_set_gives():
    starts = load("starts")

    def trained(ndcg, first_loss):
        return SimpleNamespace(best={"ndcg@10": ndcg}, first_loss=first_loss, seconds=2.0)

    trials = [
        ({}, [trained(0.1, 4.6), trained(0.2, 9.2)]),
        ({"learning_rate": 0.1}, [trained(0.3, 1), trained(0.1, 1)]),
    ]
    found = starts.summary(trials, items=100)
    assert found["ratio_to_best"] == pytest.approx(0.15 / 0.2)
    assert found["default"]["first_loss_to_ln_items"] == pytest.approx(9.2 / np.log(100))
    line = starts.table({"llama": found}).splitlines()[-1]
    assert line == "| llama | 0.1500 | 0.2000 | 75% | 2.00 | learning_rate 0.1 |"
    alone = starts.summary(trials[:1], items=100)
    assert alone["ratio_to_best"] == 1
    assert "nothing set |" in starts.table({"llama": alone}).splitlines()[-1]


@pytest.mark.slow
def test_starts_compares_nothing_set_with_a_grid_on_equal_targets(log, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "start: {num_train_epochs: 1, logging_first_step: true, sasrec_epochs: 1}\n"
        "trials: [{}, {learning_rate: 1.0e-2}]\n"
    )
    flags = ["--dataset", log, "--families", "llama", "--grid", grid, "--cache", tmp_path / "cache"]
    result = run("starts", *flags, results=tmp_path / "results")
    found = result["found"]["llama"]
    assert [trial["changes"] for trial in found["trials"]] == [{}, {"learning_rate": 0.01}]
    assert found["default"] == found["trials"][0]
    assert found["best"] == max(found["trials"], key=lambda trial: trial["ndcg@10"])
    states = sorted((tmp_path / "cache").glob("e4srec-*/run.json"))
    assert len(states) == 2
    losses = [json.loads(state.read_text())["first_loss"] / np.log(30) for state in states]
    assert sorted(losses) == pytest.approx(sorted(trial["first_loss_to_ln_items"] for trial in found["trials"]))
    assert not list((tmp_path / "cache").glob("**/test_ranks*"))
