"""``e4srec import-reference``."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.cli.running import fail, run

PICKLE = Path(__file__).parent.parent.parent / "shared" / "data" / "Beauty_SASRec_item_embed.pkl"


def test_an_item_table_of_the_reference_is_imported(tmp_path):
    table = torch.arange(12.0).reshape(4, 3)
    torch.save(table, tmp_path / "table.pkl")
    assert "4 × 3 (row 0 is padding)" in run("import-reference", tmp_path / "table.pkl", tmp_path / "out.safetensors")
    assert torch.equal(load_file(tmp_path / "out.safetensors")["item_embeddings.weight"], table)
    (tmp_path / "log.txt").write_text("u 2 1 3\n")
    run("import-reference", tmp_path / "table.pkl", tmp_path / "rows.safetensors", "--sequences", tmp_path / "log.txt")
    rows = load_file(tmp_path / "rows.safetensors")["item_embeddings.weight"]
    np.testing.assert_array_equal(rows[2:], table[[2, 1, 3]])


@pytest.mark.skipif(not PICKLE.exists(), reason="the reference's own file is not here")
def test_the_reference_s_own_item_table_is_imported(tmp_path):
    shutil.copy(PICKLE, tmp_path)
    out = run("import-reference", tmp_path / PICKLE.name, tmp_path / "table.safetensors")
    assert "12,102 × 64" in out
    assert load_file(tmp_path / "table.safetensors")["item_embeddings.weight"].shape == (12_102, 64)


def test_a_model_needs_its_sequences_and_its_base(tmp_path):
    message = fail("import-reference", "table.pkl", tmp_path / "y", "--adapter", "adapter.pth")
    assert "needs --sequences and --base-model" in message
