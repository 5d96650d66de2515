"""A model of the reference scores as it did there, once it is imported."""

import json
import os
import pickle
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from e4srec_hf.convert.reference import import_item_embeddings
from e4srec_hf.convert.reference_files import read_item_table
from e4srec_hf.data import build_item_tokenizer, catalogue_of, read_sequences
from e4srec_hf.data.item_vectors import load_item_embeddings
from e4srec_hf.modeling.configuration_e4srec import PAPER_INSTRUCTION
from tests.convert.the_reference import (
    ALPHA,
    HIDDEN,
    INSTRUCTION,
    N_ITEMS,
    RANK,
    RESPONSE,
    assert_same_scores,
    checkpoint,
    sequences_of,
)

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


def test_an_imported_model_scores_as_it_did(run_import, reference):
    directory = run_import()
    assert_same_scores(directory, reference)
    assert (directory / "README.md").exists()
    assert not (directory / "adapter_config.json").exists()
    assert not list(directory.glob("*.bin"))
    assert "No figures" in (directory / "README.md").read_text()


def test_its_recommendations_are_raw_ids_of_the_reference(run_import, reference):
    directory = run_import()
    items = AutoTokenizer.from_pretrained(directory)
    best = AutoModel.from_pretrained(directory).recommend(
        **items([["3", "1", "4"]], is_split_into_words=True, return_tensors="pt"), top_k=5, exclude_seen=False
    )
    theirs = (reference([3, 1, 4])[1:].argsort(descending=True) + 1)[:5]
    assert items.convert_ids_to_tokens(best.item_ids[0].tolist()) == [str(int(number)) for number in theirs]


def test_the_padding_row_becomes_pad(run_import, reference):
    model = AutoModel.from_pretrained(run_import())
    assert torch.equal(model.item_embeddings.weight[0], reference.input_embeds.weight[0])
    assert torch.equal(model.score.weight[0], reference.score.weight[0])
    assert not model.item_embeddings.weight[1].any()


def test_a_head_without_padding_is_taken_too(run_import, reference, files):
    heads = torch.load(files / "adapter.pth")
    heads["score"]["weight"] = heads["score"]["weight"][1:].clone()
    torch.save(heads, files / "adapter.pth")
    assert_same_scores(run_import(), reference)


@pytest.mark.parametrize("older", [False, True])
def test_a_checkpoint_with_everything_in_it_is_imported(run_import, reference, files, older):
    torch.save(checkpoint(reference), files / "pytorch_model.bin", _use_new_zipfile_serialization=not older)
    directory = run_import(adapter=files / "pytorch_model.bin", lora_alpha=ALPHA)
    assert_same_scores(directory, reference)


def test_a_checkpoint_in_safetensors_is_imported(run_import, reference, files):
    save_file(checkpoint(reference), files / "model.safetensors")
    assert_same_scores(run_import(adapter=files / "model.safetensors", lora_alpha=ALPHA), reference)


def test_a_checkpoint_on_a_model_with_a_language_head_is_imported(run_import, reference, files):
    named = {
        name.replace("llama_model.base_model.model.", "llama_model.base_model.model.model."): tensor
        for name, tensor in checkpoint(reference).items()
    }
    torch.save(named, files / "pytorch_model.bin")
    assert_same_scores(run_import(adapter=files / "pytorch_model.bin", lora_alpha=ALPHA), reference)


def test_an_early_adapter_has_its_lora_weights_inside(run_import, reference, files):
    heads = torch.load(files / "adapter.pth")
    torch.save(heads | {"lora_weights": torch.load(files / "adapter_model.bin")}, files / "adapter.pth")
    assert_same_scores(run_import(lora_alpha=ALPHA), reference)


def test_half_precision_weights_are_imported(run_import, reference, files):
    weights = torch.load(files / "adapter_model.bin")
    torch.save({name: tensor.half() for name, tensor in weights.items()}, files / "adapter_model.bin")
    model = AutoModel.from_pretrained(run_import())
    name = "layers.0.mlp.up_proj.lora_A.default.weight"
    assert torch.equal(
        model.base.state_dict()[name], weights[f"base_model.model.{name}".replace(".default", "")].half().float()
    )


def test_lora_weights_lie_where_one_says(run_import, reference, files, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for file in files.glob("adapter_model*"), files.glob("adapter_config*"):
        shutil.move(next(file), tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"theirs has no adapter_config\.json.*lora="):
        run_import()
    assert_same_scores(run_import(lora=tmp_path / "elsewhere"), reference)


def test_rank_stabilized_lora_is_carried_over(run_import, reference, files, base_dir, tmp_path):
    change_config(files, use_rslora=True, task_type="FEATURE_EXTRACTION")
    base = AutoModel.from_pretrained(base_dir)
    peft_model = peft.PeftModel.from_pretrained(base, files).eval()
    text = torch.tensor([[5, 6, 7]])
    imported = AutoModel.from_pretrained(run_import())
    with torch.no_grad():
        expected = peft_model(text).last_hidden_state
        assert torch.equal(imported.base(text).last_hidden_state, expected)
        assert not torch.allclose(expected, reference.llama_model(text).last_hidden_state, atol=1e-3)


def test_the_prompt_can_be_another(run_import, reference):
    directory = run_import(instruction="Read: ", response=" Next:")
    assert_same_scores(directory, reference, instruction="Read: ", response=" Next:")


def test_the_prompt_is_the_templates(run_import):
    config = AutoModel.from_pretrained(run_import()).config
    assert (config.instruction, config.response) == (INSTRUCTION, RESPONSE)
    assert INSTRUCTION == PAPER_INSTRUCTION


def test_no_weight_of_the_base_is_read(run_import, base_dir, tmp_path):
    shutil.copytree(base_dir, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    assert (run_import(base_model=tmp_path / "base") / "model.safetensors").exists()


def change_config(files, **fields):
    file = files / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["score"]}, r"modules_to_save=\['score'\]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"something_new": 3}, "something_new=3"),
        ({"peft_type": "IA3"}, "PEFT type IA3"),
        ({"lora_alpha": None}, "does not say lora_alpha"),
        ({"r": RANK + 1}, r"misshapen: base\.layers\.0\.mlp\.gate_proj\.lora_A.* is \(4, 32\).* needs \(5, 32\)"),
        ({"target_modules": ["gate_proj"]}, r"surplus: base_model\.model\.layers\.0\.mlp\.down_proj\.lora_A"),
        ({"target_modules": ["gate_proj", "down_proj", "up_proj", "q_proj"]}, r"missing: base\.layers\.1\..*q_proj"),
    ],
)
def test_lora_that_would_compute_something_else_is_refused(run_import, files, tmp_path, fields, message):
    change_config(files, **fields)
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        run_import()
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda heads: heads.pop("score"), r"missing: score\.weight"),
        (lambda heads: heads["input_proj"].pop("bias"), r"missing: input_proj\.bias"),
        (lambda heads: heads["score"].update(bias=torch.zeros(3)), r"no place here: score\.bias"),
        (lambda heads: heads["input_proj"].update(weight=torch.zeros(HIDDEN, 5)), r"misshapen: input_proj\.weight"),
        (
            lambda heads: heads["score"].update(weight=torch.zeros(N_ITEMS + 3, HIDDEN)),
            r"score\.weight in .* has the shape \(23, 32\), but the item table has 21 rows",
        ),
        (lambda heads: heads["score"].update(weight=torch.zeros(N_ITEMS)), r"has the shape \(20,\)"),
        (lambda heads: heads["score"]["weight"][3].fill_(torch.nan), r"NaN or infinity in score\.weight"),
        (lambda heads: heads.update(user_proj={"weight": torch.zeros(3)}), 'task_type="general"'),
        (lambda heads: heads.update({"user_embeds.weight": torch.zeros(9, 3)}), 'task_type="general"'),
        (lambda heads: heads.update({"input_embeds.weight": torch.zeros(21, 12)}), "another item table"),
        (lambda heads: heads.update(epoch=3), "epoch is a int"),
        (lambda heads: heads.update(lora_weights={"a.lora_A.weight": torch.zeros(4, 3)}), r"surplus: a\.lora_A"),
    ],
)
def test_heads_that_do_not_fit_are_refused(run_import, files, tmp_path, change, message):
    heads = torch.load(files / "adapter.pth")
    change(heads)
    torch.save(heads, files / "adapter.pth")
    with pytest.raises(ValueError, match=message):
        run_import()
    assert not (tmp_path / "ours").exists()


def test_a_base_of_another_size_is_refused(run_import, base_dir, tmp_path):
    shutil.copytree(base_dir, tmp_path / "base")
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_size": 64}))
    with pytest.raises(ValueError, match=r"(?s)do not fit .*misshapen: input_proj\.weight is \(32, 12\).*\(64, 12\)"):
        run_import(base_model=tmp_path / "base")


def test_a_folder_with_something_in_it_is_left_alone(run_import, files, tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "adapter_config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="not empty"):
        run_import()
    assert [file.name for file in (tmp_path / "ours").iterdir()] == ["adapter_config.json"]


class Touch:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["SASRec_item_embed.pkl", "adapter.pth", "adapter_model.bin"])
def test_a_file_that_calls_something_is_refused_and_not_run(run_import, files, tmp_path, name):
    with (files / name).open("wb") as file:
        pickle.dump(Touch(tmp_path / "marker"), file)
    with pytest.raises(ValueError, match=rf"{name} wants to use {os.system.__module__}\.system"):
        run_import()
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([["1", "B00X"], ["20"]], r"1 item id.* not whole numbers from 1 on, 'B00X'"),
        ([["0", "20"]], "'0'"),
        ([["01", "20"]], "'01'"),
        ([["٣", "20"]], "'٣'"),
        ([["1", "19"]], "21 rows, padding and items 1 to 20, but the items of the sequences go up to 19"),
        ([["1", "21"]], "go up to 21"),
    ],
)
def test_sequences_of_other_items_are_refused(run_import, files, tmp_path, histories, message):
    with pytest.raises(ValueError, match=message):
        run_import(sequences=sequences_of(histories))
    with pytest.raises(ValueError, match=message):
        import_item_embeddings(
            tmp_path / "table.safetensors",
            item_embeddings=files / "SASRec_item_embed.pkl",
            sequences=sequences_of(histories),
        )
    assert not (tmp_path / "table.safetensors").exists()


def test_an_item_table_is_put_in_the_order_of_the_log(files, reference, sequences, tmp_path):
    file = tmp_path / "new" / "table.safetensors"
    rows = import_item_embeddings(file, item_embeddings=files / "SASRec_item_embed.pkl", sequences=sequences)
    tokenizer = build_item_tokenizer(catalogue_of(sequences))
    loaded = load_item_embeddings(file, tokenizer)
    assert torch.equal(loaded, rows)
    for number in range(1, N_ITEMS + 1):
        token = tokenizer.convert_tokens_to_ids(str(number))
        assert torch.equal(loaded[token], reference.input_embeds.weight[number])
    assert torch.equal(loaded[0], reference.input_embeds.weight[0])
    assert not loaded[1].any()


def test_numbers_without_a_purchase_are_no_items_of_the_log(files, reference, tmp_path):
    rows = import_item_embeddings(
        tmp_path / "table.safetensors",
        item_embeddings=files / "SASRec_item_embed.pkl",
        sequences=sequences_of([["20", "4"]]),
    )
    assert torch.equal(rows[2:], reference.input_embeds.weight[[20, 4]])


def test_a_table_goes_to_a_safetensors_file(files, sequences, tmp_path):
    with pytest.raises(ValueError, match=r"table\.pkl must end in \.safetensors"):
        import_item_embeddings(
            tmp_path / "table.pkl", item_embeddings=files / "SASRec_item_embed.pkl", sequences=sequences
        )


@pytest.mark.parametrize(
    "content", [torch.zeros(3), torch.zeros(3, 4).long(), {"a": torch.zeros(2, 2), "b": torch.zeros(2)}]
)
def test_what_is_no_item_table_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "table.pkl")
    with pytest.raises(ValueError, match=r"table\.pkl holds .*; expected one matrix"):
        read_item_table(tmp_path / "table.pkl")


@pytest.mark.slow
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the reference's own files are not here")
def test_the_references_own_table_of_beauty(tmp_path):
    table = read_item_table(REAL_DATA / "Beauty_SASRec_item_embed.pkl")
    assert table.shape == (12_102, 64)
    sequences = read_sequences(REAL_DATA / "Beauty.txt")
    rows = import_item_embeddings(
        tmp_path / "beauty.safetensors",
        item_embeddings=REAL_DATA / "Beauty_SASRec_item_embed.pkl",
        sequences=sequences,
    )
    assert rows.shape == (12_103, 64)
    tokens = build_item_tokenizer(catalogue_of(sequences)).convert_tokens_to_ids([str(row) for row in range(1, 12_102)])
    assert torch.equal(rows[tokens], table[1:])
    with pytest.raises(ValueError, match="go up to 3646"):
        import_item_embeddings(
            tmp_path / "wrong.safetensors",
            item_embeddings=REAL_DATA / "Beauty_SASRec_item_embed.pkl",
            sequences=read_sequences(REAL_DATA / "LastFM.txt"),
        )
