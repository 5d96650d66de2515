"""Figures belong to weights and a catalogue: they are read with these and with no others."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.catalogue.items import remove_items, restore_items
from e4srec_hf.evaluation import RankingReport, load_evaluation, load_reports, save_reports
from e4srec_hf.evaluation.fingerprint import folder_fingerprint, model_fingerprint
from e4srec_hf.evaluation.metrics import metrics_with_intervals
from e4srec_hf.training.saving import save_trained
from e4srec_hf.training.tiny_base import make_tiny_base

REPORTS = {"full": {"E4SRec": RankingReport(metrics_with_intervals([1.0, 3.0]), [1.0, 3.0], 2, 0, True, "all")}}


def change_one_bit(tensor):
    with torch.no_grad():
        tensor.view(torch.int32)[-1] ^= 1


@pytest.mark.parametrize("kind", ["lora", "full", "sasrec"])
def test_a_model_has_the_fingerprint_of_its_file_and_of_what_is_loaded(
    kind, make_model, base_dir, item_tokenizer, tmp_path
):
    if kind == "sasrec":
        model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8, num_hidden_layers=1))
    else:
        model = make_model(base_dir, tuning=kind)
    fingerprint = model_fingerprint(model)
    save_trained(model, item_tokenizer, tmp_path)
    assert folder_fingerprint(tmp_path) == model_fingerprint(AutoModel.from_pretrained(tmp_path)) == fingerprint
    assert model_fingerprint(model.train()) == fingerprint


def test_equal_values_in_bfloat16_have_the_same_fingerprint(make_model, base_dir, item_tokenizer, tmp_path):
    model = make_model(base_dir)
    before = model_fingerprint(model)
    model.save_pretrained(tmp_path / "half", dtype=torch.bfloat16, tokenizer=item_tokenizer)
    rounded = AutoModel.from_pretrained(tmp_path / "half")
    assert rounded.score.weight.dtype == torch.float32
    assert model_fingerprint(rounded) == folder_fingerprint(tmp_path / "half") != before
    rounded.save_pretrained(tmp_path / "again")
    assert folder_fingerprint(tmp_path / "again") == folder_fingerprint(tmp_path / "half")


def test_every_weight_and_the_catalogue_change_the_fingerprint(make_model, item_tokenizer):
    model = make_model()
    seen = {model_fingerprint(model)}
    for count, name in enumerate(model.saved_keys(), start=2):
        change_one_bit(model.state_dict()[name].flatten()[-1:])
        seen.add(model_fingerprint(model))
        assert len(seen) == count, name
    before = model_fingerprint(model)
    remove_items(model, item_tokenizer, ["item 3"])
    assert model_fingerprint(model) not in seen
    restore_items(model, item_tokenizer, ["item 3"])
    assert model_fingerprint(model) == before


def test_figures_of_another_model_are_not_read(make_model, base_dir, item_tokenizer, tmp_path):
    assert folder_fingerprint(tmp_path) is None
    model = make_model(base_dir)
    save_trained(model, item_tokenizer, tmp_path)
    save_reports(REPORTS, tmp_path, popularity_skew={"top_k": 10})
    found = load_evaluation(tmp_path)
    assert found.reports["full"]["E4SRec"].to_dict() == REPORTS["full"]["E4SRec"].to_dict()
    assert found.popularity_skew == {"top_k": 10}
    assert load_evaluation(tmp_path, model) == found
    change_one_bit(model.score.weight.flatten()[-1:])
    assert load_evaluation(tmp_path, model) == load_evaluation(tmp_path / "none")
    assert load_reports(tmp_path) == found.reports  # the file still has the weights of before
    model.save_pretrained(tmp_path)
    assert load_reports(tmp_path) == {}
    assert load_evaluation(tmp_path).popularity_skew is None


def change_json(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "has_effect"),
    [
        ({"max_history": 3}, True),
        ({"response_ids": [5, 6]}, True),
        ({"instruction_ids": []}, True),
        ({"lora": {"r": 4, "lora_alpha": 5}}, True),
        ({"lora": {"r": 4, "use_rslora": True}}, True),
        ({"dtype": "bfloat16"}, True),
        ({"retired_items": [7]}, True),
        ({"lora": {"r": 4, "lora_dropout": 0.4}}, False),
        ({"item_dropout": 0.4, "train_item_embeddings": True, "transformers_version": "4"}, False),
    ],
)
def test_a_field_of_the_config_counts_if_scores_depend_on_it(
    fields, has_effect, make_model, base_dir, item_tokenizer, tmp_path
):
    save_trained(make_model(base_dir, lora={"r": 4, "target_modules": ["up_proj"]}), item_tokenizer, tmp_path)
    save_reports(REPORTS, tmp_path)
    if "lora" in fields:
        fields["lora"] = {"target_modules": ["up_proj"], **fields["lora"]}
    change_json(tmp_path / "config.json", **fields)
    assert (load_reports(tmp_path) == {}) == has_effect


@pytest.mark.parametrize("field", [{"max_history": 3}, {"num_attention_heads": 2}])
def test_fields_of_a_sasrec_count_too(field, item_tokenizer, tmp_path):
    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8, num_hidden_layers=1))
    save_trained(model, item_tokenizer, tmp_path)
    save_reports(REPORTS, tmp_path)
    change_json(tmp_path / "config.json", dropout=0.7, loss="bce")
    assert load_reports(tmp_path) != {}
    change_json(tmp_path / "config.json", **field)
    assert load_reports(tmp_path) == {}


def test_the_base_counts_by_its_content(make_model, base_dir, item_tokenizer, tmp_path):
    base, folder = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(base_dir, base)
    model = make_model(base)
    save_trained(model, item_tokenizer, folder)
    save_reports(REPORTS, folder)
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    change_json(copy / "config.json", transformers_version="4")
    change_json(folder / "config.json", base_model_name_or_path=str(copy))
    assert load_reports(folder) != {}  # the same base in another place
    shutil.move(copy, folder / "base")
    change_json(folder / "config.json", base_model_name_or_path="./base")
    shutil.move(folder, tmp_path / "moved")
    folder = tmp_path / "moved"
    assert load_reports(folder) != {}  # and in the folder, wherever that is
    assert load_reports(folder) == load_evaluation(folder, AutoModel.from_pretrained(folder)).reports
    tensors = load_file(folder / "base" / "model.safetensors")
    change_one_bit(tensors["layers.1.mlp.up_proj.weight"].flatten()[-1:])
    save_file(tensors, folder / "base" / "model.safetensors", metadata={"format": "pt"})
    assert load_reports(folder) == {}  # another one under the same name
    assert load_evaluation(folder, AutoModel.from_pretrained(folder)).reports == {}


def test_a_base_counts_alike_in_one_file_or_in_several(make_model, base_dir, tmp_path, monkeypatch):
    def fingerprint(folder):
        return model_fingerprint(make_model(folder))

    base = AutoModel.from_pretrained(base_dir)
    base.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    for file in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(f"{base_dir}/{file}", tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert fingerprint(tmp_path / "shards") == fingerprint(base_dir)
    monkeypatch.setattr("e4srec_hf.evaluation.fingerprint.MOST_VALUES", 100)
    by_rows = fingerprint(base_dir)
    assert by_rows == fingerprint(tmp_path / "shards")
    with torch.no_grad():
        base.layers[0].mlp.down_proj.weight += 1e-3
    base.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shutil.copy(f"{base_dir}/config.json", tmp_path / "shards")
    assert by_rows != fingerprint(tmp_path / "shards")


def test_another_base_of_the_same_shape_leaves_figures_behind(make_model, base_dir, item_tokenizer, tmp_path):
    save_trained(make_model(base_dir), item_tokenizer, tmp_path / "adapter")
    save_reports(REPORTS, tmp_path / "adapter")
    other = make_tiny_base(
        tmp_path / "other", hidden_size=32, texts=("The reader had: ", " Next:"), num_attention_heads=4, seed=9
    )
    model = AutoModel.from_pretrained(tmp_path / "adapter", base_model=other)
    assert load_evaluation(tmp_path / "adapter", model).reports == {}
    model.save_pretrained(tmp_path / "adapter")
    assert load_reports(tmp_path / "adapter") == {}


def test_a_base_on_the_hub_is_no_folder_of_its_name(make_model, base_dir, item_tokenizer, tmp_path, monkeypatch):
    """Wherever the program runs."""
    model = make_model(base_dir)
    model.config.base_model_name_or_path, model.config.base_model_revision = "org/base", "a" * 40
    before = model_fingerprint(model)
    shutil.copytree(base_dir, tmp_path / "org" / "base")
    monkeypatch.chdir(tmp_path)
    assert model_fingerprint(model) == before
    save_trained(model, item_tokenizer, tmp_path / "adapter")
    assert folder_fingerprint(tmp_path / "adapter") == before
