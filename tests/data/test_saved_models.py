"""What is no model of this package is named before anything is loaded."""

import json
import shutil

import pytest

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data.saved_models import load_saved_model, load_saved_tokenizer
from e4srec_hf.training.saving import save_trained


def refused(folder):
    with pytest.raises((OSError, ValueError)) as error:
        load_saved_model(folder, load_saved_tokenizer(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_saved_model_is_loaded_with_its_tokenizer(make_model, base_dir, item_tokenizer, tmp_path):
    save_trained(make_model(base_dir), item_tokenizer, tmp_path)
    tokenizer = load_saved_tokenizer(tmp_path)
    assert tokenizer.get_vocab() == item_tokenizer.get_vocab()
    assert load_saved_model(tmp_path, tokenizer).config.model_type == "e4srec"


def test_a_base_too_narrow_for_4_bits_is_named(make_model, base_dir, item_tokenizer, tmp_path):
    save_trained(make_model(base_dir), item_tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"load_in_4bit: on a CPU .* of the base goes from 32 to .* to 8 bits"):
        load_saved_model(tmp_path, item_tokenizer, load_in_4bit=True, device="cpu")


def test_a_language_model_is_named_as_a_base(base_dir):
    assert "holds a model of the type llama; expected e4srec or sasrec. A language model is the base" in refused(
        base_dir
    )


def test_other_folders_are_named(tmp_path, base_dir):
    assert refused(tmp_path) == f"{tmp_path} holds no model itself: it has no config.json."
    file = tmp_path / "config.json"
    assert refused(shutil.copy(f"{base_dir}/config.json", tmp_path / "file.json")).endswith(
        "is a file; expected the folder of a saved model."
    )
    for content, message in (
        ("{}", "a config.json without a model_type"),
        ("[1]", "expected a JSON object"),
        ("{", "is not a JSON file"),
        ('{"model_type": 3}', "a config.json without a model_type"),
    ):
        file.write_text(content)
        assert message in refused(tmp_path)
    file.unlink()
    (tmp_path / "sasrec").mkdir()
    (tmp_path / "sasrec" / "config.json").write_text('{"model_type": "sasrec"}')
    assert refused(tmp_path) == f"{tmp_path} holds no model itself: did you mean {tmp_path / 'sasrec'}?"


def test_a_model_without_its_tokenizer_is_named(make_model, base_dir, tmp_path):
    make_model(base_dir).save_pretrained(tmp_path)
    assert "has no item tokenizer (tokenizer.json)" in refused(tmp_path)


def test_a_base_is_chosen_or_quantized_for_an_adapter_only(make_model, base_dir, item_tokenizer, tmp_path):
    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8, num_hidden_layers=1))
    save_trained(model, item_tokenizer, tmp_path / "sasrec")
    save_trained(make_model(base_dir, tuning="full"), item_tokenizer, tmp_path / "full")
    for asked in ({"base_model": base_dir}, {"load_in_8bit": True}, {"load_in_4bit": True}):
        with pytest.raises(ValueError, match="is no E4SRec model: it has no base"):
            load_saved_model(tmp_path / "sasrec", item_tokenizer, **asked)
        with pytest.raises(ValueError, match="brings its base along, trained whole"):
            load_saved_model(tmp_path / "full", item_tokenizer, **asked)
    assert json.loads((tmp_path / "full" / "config.json").read_text())["tuning"] == "full"
