"""Figures belong to weights and a catalogue: they are read with these and with no others."""

import pytest
import torch
from transformers import AutoModel

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.catalogue.items import remove_items, restore_items
from e4srec_hf.evaluation import RankingReport, load_evaluation, load_reports, save_reports
from e4srec_hf.evaluation.fingerprint import folder_fingerprint, model_fingerprint
from e4srec_hf.evaluation.metrics import metrics_with_intervals
from e4srec_hf.training.saving import save_trained

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


def test_every_weight_and_the_catalogue_change_the_fingerprint_and_the_base_does_not(make_model, item_tokenizer):
    model = make_model()
    seen = {model_fingerprint(model)}
    with torch.no_grad():
        model.base.get_input_embeddings().weight.add_(1)  # frozen, and not in the file
    assert model_fingerprint(model) in seen
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
