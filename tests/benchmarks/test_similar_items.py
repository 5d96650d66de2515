"""The comparison of vectors by what they hold to be alike, against counting by hand."""

import numpy as np
import pytest
import torch

from e4srec_hf import E4SRecModel, save_trained
from e4srec_hf.data import build_item_tokenizer, load_training_data
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.benchmarks.running import load, run


def test_a_series_is_what_stands_before_the_number_of_a_book():
    series_of = load("similar_items").series_of
    assert series_of("The Glass Voyages, Book 3: Seven Keys") == "The Glass Voyages"
    assert series_of("Emma") == ""


@pytest.mark.slow
def test_held_out_pairs_are_counted_in_both_directions(log, tmp_path):
    data = load_training_data(str(log))
    tokenizer = build_item_tokenizer(data.items)
    torch.manual_seed(0)
    base = make_tiny_base(tmp_path / "model" / "base", hidden_size=32)
    model = E4SRecModel.from_base(base, torch.randn(len(tokenizer), 16), head="linear")
    save_trained(model, tokenizer, tmp_path / "model")
    result = run("similar_items", tmp_path / "model", "--dataset", log, "--top_k", 4, results=tmp_path / "results")
    assert result["pairs"] == 40
    assert result["catalogue"] == len(data.items)
    pairs = [line.split()[-2:] for line in log.read_text().splitlines()]
    for by, table in (("items", model.item_embeddings.weight), ("head", model.score.weight)):
        rows = table.detach().numpy()[2:]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = rows @ rows.T - 9 * np.eye(len(rows))
        near = {item: {data.items[n] for n in np.argsort(-cosines[row])[:4]} for row, item in enumerate(data.items)}
        hits = sum((b in near[a]) + (a in near[b]) for a, b in pairs)
        assert result[by] == {"held_out_pair_among_neighbours": pytest.approx(hits / 80)}
