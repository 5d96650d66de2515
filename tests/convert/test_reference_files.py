"""Which file is what: output folders, copies of the item table, RecBole 3, the reference's other task."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from e4srec_hf.convert.reference import import_item_embeddings
from e4srec_hf.convert.reference_files import REFERENCE_RESPONSE, find_adapter, read_item_table
from e4srec_hf.modeling.configuration_e4srec import PAPER_INSTRUCTION
from tests.convert.the_reference import ALPHA, N_ITEMS, RANK, assert_same_scores, checkpoint, sequences_of

SHARED = Path(__file__).parents[2] / "shared" / "data"
#: RecBole 3 writes the paper's prompt with a straight apostrophe.
RECBOLE_INSTRUCTION = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\nGiven the user's purchase history, "
    "predict next possible item to be purchased.\n\n### Input:\n"
)


def test_an_output_folder_is_an_adapter(run_import, reference, files):
    assert_same_scores(run_import(adapter=files), reference)


def test_the_last_checkpoint_of_an_output_folder_is_taken(run_import, reference, files, tmp_path):
    (files / "adapter.pth").unlink()
    broken = {name: tensor + 1 for name, tensor in checkpoint(reference).items()}
    for number, tensors in ((900, broken), (1000, checkpoint(reference)), (50, broken)):
        (files / f"checkpoint-{number}").mkdir()
        torch.save(tensors, files / f"checkpoint-{number}" / "pytorch_model.bin")
    (files / "checkpoint-none").mkdir()
    directory = run_import(adapter=files)  # adapter_config.json, outside of the checkpoint, says lora_alpha
    assert_same_scores(directory, reference)
    settings = json.loads((directory / "training.json").read_text())["settings"]
    assert settings["adapter"] == "checkpoint-1000/pytorch_model.bin"


def test_the_file_of_lora_alone_leads_to_the_heads_beside_it(run_import, reference, files):
    assert_same_scores(run_import(adapter=files / "adapter_model.bin"), reference)
    (files / "adapter.pth").rename(files / "adapter.bin")
    assert find_adapter(files) == find_adapter(files / "adapter_model.bin") == files / "adapter.bin"


def test_a_folder_without_heads_says_what_is_looked_for(run_import, files, tmp_path):
    (files / "adapter.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"no scoring head: none of adapter\.pth, .*pytorch_model\.bin.* in "):
        run_import(adapter=files)
    torch.save({}, files / "pytorch_model.bin")  # as its instruction tuning leaves it
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is empty"):
        run_import(adapter=files)
    torch.save({"llama_model.layers.0.lora_A.weight": torch.zeros(4, 3)}, files / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has none of input_proj\.weight, .*score\.weight"):
        run_import(adapter=files)
    assert not (tmp_path / "ours").exists()


def test_an_empty_file_of_lora_weights_is_named(run_import, files):
    torch.save({}, files / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_model\.bin is empty, as some versions of PEFT left it"):
        run_import()


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_names_of_a_wrapped_model_are_read(run_import, reference, files, wrapper):
    torch.save({wrapper + name: tensor for name, tensor in checkpoint(reference).items()}, files / "pytorch_model.bin")
    assert_same_scores(run_import(adapter=files / "pytorch_model.bin"), reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("which", ["given", "own"])
def test_a_copy_of_the_item_table_in_another_dtype_is_the_same_table(run_import, reference, files, dtype, which):
    tensors = checkpoint(reference)
    if which == "own":
        tensors["input_embeds.weight"] = tensors["input_embeds.weight"].to(dtype)
    else:
        torch.save(reference.input_embeds.weight.to(dtype), files / "SASRec_item_embed.pkl")
    torch.save(tensors, files / "pytorch_model.bin")
    assert_same_scores(run_import(adapter=files / "pytorch_model.bin"), reference)  # the copy with more digits counts


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_table_that_was_rounded_and_stored_as_float32_is_the_same_table(run_import, reference, files, dtype):
    torch.save(reference.input_embeds.weight.to(dtype).float(), files / "SASRec_item_embed.pkl")
    torch.save(checkpoint(reference), files / "pytorch_model.bin")
    assert_same_scores(run_import(adapter=files / "pytorch_model.bin"), reference)


@pytest.mark.parametrize(
    "change", [lambda table: table * 1.02, lambda table: table.roll(1, 0), lambda table: table[:, :-1]]
)
def test_another_table_is_another_table_in_any_dtype(run_import, reference, files, change):
    torch.save(change(reference.input_embeds.weight.half()), files / "SASRec_item_embed.pkl")
    torch.save(checkpoint(reference), files / "pytorch_model.bin")
    with pytest.raises(ValueError, match="another item table"):
        run_import(adapter=files / "pytorch_model.bin")


def recbole(reference, folder, table_rows=None):
    """What RecBole 3 saves: trained tensors, and a table of items without padding, whose mean pads."""
    table = reference.input_embeds.weight[1:]
    padded = torch.cat([table.mean(dim=0, keepdim=True), table])
    tensors = {
        re.sub("^llama_model", "llm_model", name): tensor.clone()
        for name, tensor in checkpoint(reference).items()
        if not name.startswith(("user_", "llama_model.")) or "lora" in name
    }
    save_file(tensors | {"input_embeds.weight": padded}, folder / "model.safetensors")
    surplus = torch.rand((table_rows or len(table)) - len(table), table.shape[1])
    np.save(folder / "item_embeds.npy", torch.cat([table, surplus]).numpy())
    return padded


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("table_rows", [N_ITEMS, N_ITEMS + 3])
def test_a_model_of_recbole_3_scores_as_it_did(run_import, reference, tmp_path, first, table_rows):
    folder = tmp_path / "checkpoint-7"
    folder.mkdir()
    recbole(reference, folder, table_rows)
    numbers = [str(number) for number in range(first, N_ITEMS + first)]
    directory = run_import(
        adapter=folder,
        item_embeddings=folder / "item_embeds.npy",
        sequences=sequences_of([numbers]),
        lora_alpha=ALPHA,
    )
    config = AutoConfig.from_pretrained(directory)
    assert (config.instruction, config.response) == (RECBOLE_INSTRUCTION, REFERENCE_RESPONSE)
    assert RECBOLE_INSTRUCTION != PAPER_INSTRUCTION
    assert config.max_history == 50
    assert config.lora["r"] == RANK
    model, tokenizer = AutoModel.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    rows = [3, 1, 4, 1, 5]  # counted from 1, as RecBole counts inside
    tokens = tokenizer.convert_tokens_to_ids([str(row - 1 + first) for row in rows])
    with torch.no_grad():
        ours = model(torch.tensor([tokens])).logits[0]
    theirs = reference(rows, instruction=RECBOLE_INSTRUCTION)
    columns = tokenizer.convert_tokens_to_ids(numbers)
    torch.testing.assert_close(ours[columns], theirs[1:], rtol=0, atol=1e-5)
    card = (directory / "README.md").read_text()
    assert "RecBole 3" in card


def test_a_table_of_recbole_3_alone_is_put_in_the_order_of_the_log(reference, tmp_path):
    recbole(reference, tmp_path)
    for first in (0, 1):
        numbers = [N_ITEMS - 1 + first, 2 + first]
        file = tmp_path / f"{first}.safetensors"
        rows = import_item_embeddings(
            file, item_embeddings=tmp_path / "item_embeds.npy", sequences=sequences_of([[str(n) for n in numbers]])
        )
        assert torch.equal(rows[2:], reference.input_embeds.weight[[N_ITEMS, 3]])
        assert torch.equal(load_file(file)["item_embeddings.weight"], rows)
    with pytest.raises(ValueError, match="20 rows, items 0 to 19, but the items of the sequences go up to 25"):
        import_item_embeddings(
            file, item_embeddings=tmp_path / "item_embeds.npy", sequences=sequences_of([["25", "1"]])
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_numpy_tables_of_any_float_are_read(tmp_path, dtype):
    table = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3).astype(dtype))
    np.save(tmp_path / "table.npy", table)
    assert read_item_table(tmp_path / "table.npy").tolist() == table.tolist()


def test_numpy_files_of_objects_are_refused(tmp_path):
    np.save(tmp_path / "table.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"table\.npy is no file of tensors"):
        read_item_table(tmp_path / "table.npy")


@pytest.mark.parametrize("name", ["VanillaMF_item_embed.pkl", "VanillaMF_user_embed.pkl"])
def test_a_table_of_the_other_task_is_named_as_such(files, tmp_path, name):
    shutil.copy(files / "SASRec_item_embed.pkl", tmp_path / name)
    with pytest.raises(ValueError, match=rf'{name} is from the reference\'s other task \(task_type="general"\)'):
        import_item_embeddings(tmp_path / "out.safetensors", item_embeddings=tmp_path / name)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_table_without_padding_is_that_of_the_other_task(run_import, reference, files):
    """A matrix factorisation under another name: one row an item, for a head with one row more."""
    torch.save(reference.input_embeds.weight[1:].clone(), files / "table.pkl")
    with pytest.raises(ValueError, match=r'has no row for padding.*task_type="general"'):
        run_import(item_embeddings=files / "table.pkl")


def test_sequences_of_the_other_task_are_named_as_such(run_import):
    with pytest.raises(ValueError, match='Ids from 0 are those of the reference\'s other task, "general"'):
        run_import(sequences=sequences_of([["0", "20"]]))


def test_the_base_is_recorded_as_float32_whatever_it_is_saved_in(run_import, reference, base_dir, tmp_path):
    base = AutoModel.from_pretrained(base_dir)
    for dtype in (torch.float16, torch.bfloat16):
        half = tmp_path / str(dtype)
        shutil.copytree(base_dir, half)
        base.to(dtype).save_pretrained(half)
        directory = run_import(base_model=half)
        assert AutoConfig.from_pretrained(directory).dtype == torch.float32
        assert AutoModel.from_pretrained(directory).base.dtype == torch.float32
        shutil.rmtree(directory)


def test_the_card_names_the_sequences(run_import, sequences, tmp_path):
    file = tmp_path / "Beauty.txt"
    file.write_text("".join(f"{row['user_id']} {' '.join(row['item_ids'])}\n" for row in sequences))
    card = (run_import(sequences=str(file)) / "README.md").read_text()
    assert "| name" in card
    assert "| Beauty.txt " in card
    assert "| 3 " in card
    shutil.rmtree(tmp_path / "ours")
    assert "| unnamed " in (run_import() / "README.md").read_text()


def test_a_base_whose_weights_are_pickles_is_refused_before_anything_is_written(run_import, base_dir, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(base_dir, old)
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"weights of the base .*old are in pytorch_model\.bin.*safetensors"):
        run_import(base_model=old)
    assert not (tmp_path / "ours").exists()
    assert not Path("old-safetensors").exists()


@torch.no_grad()
def test_the_reference_s_padding_shifts_its_scores_and_an_imported_model_reads_as_it_evaluates(run_import, reference):
    """Its collator pads to two items at least; zeros in front move the positions of all that follows."""
    history = [7]
    alone = reference(history)
    before, behind = (
        reference.llama_model.get_input_embeddings()(
            torch.tensor([reference.tokens(text, add_special_tokens=False)["input_ids"]])
        )
        for text in (PAPER_INSTRUCTION, REFERENCE_RESPONSE)
    )
    items = reference.input_proj(reference.input_embeds(torch.tensor([[0, *history]])))
    mask = torch.ones(1, before.shape[1] + 2 + behind.shape[1], dtype=torch.long)
    mask[0, before.shape[1]] = 0
    embeds = torch.cat([before, items, behind], dim=1)
    padded = reference.score(reference.llama_model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state[:, -1])
    assert (padded[0] - alone).abs().max() > 1e-3
    assert_same_scores(run_import(), reference)  # the reference of this test never pads


@pytest.mark.skipif(not (SHARED / "Beauty.txt").exists(), reason="the public data sets are not here")
def test_how_many_training_pairs_of_beauty_are_always_padded():
    """Its pairs: the last 50 of a user's items but two, each after the items before it."""
    before = [
        len(items) - min(len(items), 50) + place
        for line in (SHARED / "Beauty.txt").read_text().splitlines()
        for items in [line.split()[1:-2]]
        for place in range(min(len(items), 50))
    ]
    assert (sum(length < 2 for length in before), len(before)) == (44_463, 150_258)


def test_what_a_quantized_base_leaves_in_a_checkpoint_is_not_looked_at(run_import, reference, files):
    """bitsandbytes 0.39 to 0.41 keep the layout of 8-bit weights as text."""
    tensors = checkpoint(reference)
    layer = "llama_model.base_model.model.layers.0.self_attn.q_proj"
    tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"].to(torch.int8)
    torch.save(tensors | {f"{layer}.SCB": torch.rand(32), f"{layer}.weight_format": "row"}, files / "pytorch_model.bin")
    assert_same_scores(run_import(adapter=files / "pytorch_model.bin"), reference)
