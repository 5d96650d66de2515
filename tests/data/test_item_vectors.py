"""Item vectors from wherever they are, in the order of the item tokenizer."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.data.item_vectors import load_item_embeddings
from e4srec_hf.training.saving import save_trained
from tests.conftest import VOCAB


def test_a_numpy_file_and_a_safetensors_file_give_their_rows(tmp_path, item_table, item_tokenizer):
    np.save(tmp_path / "table.npy", item_table.double().numpy())
    save_file({"anything": item_table.half()}, tmp_path / "table.safetensors")
    save_file({"item_embeddings.weight": item_table, "other": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert torch.equal(load_item_embeddings(tmp_path / "table.npy", item_tokenizer), item_table)
    assert torch.equal(load_item_embeddings(tmp_path / "table.safetensors", item_tokenizer), item_table.half().float())
    assert torch.equal(load_item_embeddings(tmp_path / "model.safetensors", item_tokenizer), item_table)


@pytest.mark.parametrize("rows", [VOCAB - 2, VOCAB - 1, VOCAB + 1])
def test_rows_that_do_not_fit_the_tokenizer_are_refused(rows, tmp_path, item_tokenizer):
    np.save(tmp_path / "table.npy", np.zeros((rows, 4)))
    message = rf"table.npy has the shape \({rows}, 4\), but the item tokenizer has 32 tokens \(.* and 30 items\)"
    with pytest.raises(ValueError, match=message):
        load_item_embeddings(tmp_path / "table.npy", item_tokenizer)


def test_pickled_arrays_are_refused(tmp_path, item_tokenizer):
    np.save(tmp_path / "table.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickled arrays are not read"):
        load_item_embeddings(tmp_path / "table.npy", item_tokenizer)


def test_files_that_hold_no_single_matrix_are_refused(tmp_path, item_tokenizer):
    save_file({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"holds \['a', 'b'\]; expected one matrix, or one named"):
        load_item_embeddings(tmp_path / "two.safetensors", item_tokenizer)
    (tmp_path / "broken.safetensors").write_bytes(b"not at all")
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_item_embeddings(tmp_path / "broken.safetensors", item_tokenizer)


def test_a_sasrec_gives_its_vectors_by_raw_id(tmp_path):
    theirs = build_item_tokenizer(["a", "b", "c"])
    model = SASRecModel(SASRecConfig(vocab_size=5, hidden_size=4))
    save_trained(model, theirs, tmp_path)
    ours = build_item_tokenizer(["c", "a"])
    table = load_item_embeddings(tmp_path, ours)
    assert torch.equal(table, model.item_embeddings.weight[[0, 1, 4, 2]])
    with pytest.raises(ValueError, match=r"has no vector for 1 of 4 item tokens, 'd' among them"):
        load_item_embeddings(tmp_path, build_item_tokenizer(["d", "a"]))
