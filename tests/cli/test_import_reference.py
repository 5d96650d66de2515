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
    assert "4 × 3 (row for row)" in run("import-reference", tmp_path / "table.pkl", tmp_path / "out.safetensors")
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


@pytest.fixture
def imported(files, base_dir, sequences, tmp_path):
    """The words that import the reference's files, without its adapter."""
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{row['user_id']} {' '.join(row['item_ids'])}\n" for row in sequences))
    table = files / "SASRec_item_embed.pkl"
    return ["import-reference", table, tmp_path / "ours", "--sequences", log, "--base-model", base_dir, "--adapter"]


def test_an_output_folder_is_imported_and_recommends_in_8_bits(imported, files, tmp_path):
    out = run(*imported, files, "--load_in_8bit")
    assert "with --load-in-8bit" in out
    card = (tmp_path / "ours" / "README.md").read_text()
    assert "quantized to 8 bits" in card
    assert "| log.txt" in card
    whole, quantized = (
        run("recommend", tmp_path / "ours", "1", "2", "--top-k", "15", *flags) for flags in ([], ["--load-in-8bit"])
    )
    assert whole != quantized
    assert len(whole.splitlines()) == len(quantized.splitlines()) == 15


def test_messages_name_flags(imported, files, base_dir, tmp_path):
    heads = torch.load(files / "adapter.pth")
    torch.save(heads | {"lora_weights": torch.load(files / "adapter_model.bin")}, tmp_path / "adapter.pth")
    assert "pass --lora-alpha of the training" in fail(*imported, tmp_path / "adapter.pth")
    torch.save(heads, tmp_path / "adapter.pth")
    assert "pass the folder that the reference saved its LoRA weights to with --lora." in fail(
        *imported, tmp_path / "adapter.pth"
    )
    assert "--lora-alpha 3.0 was passed, but " in fail(*imported, files, "--lora-alpha", "3")
    assert "--load-in-4bit and --load-in-8bit exclude each other" in fail(
        *imported, files, "--load-in-4bit", "--load-in-8bit"
    )
    assert fail(*imported, tmp_path / "nowhere").startswith("e4srec: no such folder: ")
    assert not (tmp_path / "ours").exists()
    base = tmp_path / "base"
    shutil.copytree(base_dir, base)
    imported[imported.index(base_dir)] = base
    run(*imported, files)
    shutil.rmtree(base)
    refused = fail("recommend", tmp_path / "ours", "1")
    assert "pass --base-model" in refused
    assert "base_model=" not in refused


@pytest.mark.parametrize("flag", ["--base-model", "--lora"])
def test_a_base_without_an_adapter_is_refused(tmp_path, flag):
    assert "give --adapter" in fail("import-reference", "table.pkl", tmp_path / "y", flag, "some")
