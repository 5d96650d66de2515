"""Saving a model reads nothing back."""

from e4srec_hf import SASRecConfig, SASRecModel, save_trained
from e4srec_hf.cards import model_card


def test_the_item_tokenizer_is_not_loaded_again_for_the_card(item_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, "load_item_tokenizer", lambda *args, **kwargs: 1 / 0)
    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8))
    save_trained(model, item_tokenizer, tmp_path)
    first = item_tokenizer.convert_ids_to_tokens([2, 3, 4])
    assert all(repr(item)[1:-1] in (tmp_path / "README.md").read_text(encoding="utf-8") for item in first)
