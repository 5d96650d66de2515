"""What is saved, that it comes back bit for bit, and what is refused."""

import json
import shutil
import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from e4srec_hf import E4SRecConfig, E4SRecModel, SASRecConfig, SASRecModel
from e4srec_hf.catalogue import add_items
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.modeling.bases import recorded_base
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.conftest import ITEM_DIM, VOCAB, random_batch, run_without_package

HEAD_SHAPES = {"linear": [VOCAB, 32], "tied": [ITEM_DIM, 32]}


def change_weights(directory, change):
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def change_config(directory, **changes):
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("head", ["linear", "tied"])
def test_a_reloaded_model_equals_the_saved_one_bit_for_bit(head, tuning, saved):
    model, directory = saved(head=head, tuning=tuning)
    loaded = AutoModel.from_pretrained(directory)
    ids, mask = random_batch()
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)
    assert type(loaded) is E4SRecModel
    assert not loaded.training


@pytest.mark.parametrize("head", ["linear", "tied"])
def test_the_file_of_a_lora_model_holds_the_allow_listed_tensors_and_none_of_the_base(head, saved):
    _model, directory = saved(head=head)
    weights = load_file(directory / "model.safetensors")
    layers = [f"layers.{layer}.mlp.{name}" for layer in (0, 1) for name in ("gate_proj", "up_proj", "down_proj")]
    assert set(weights) == {
        "item_embeddings.weight",
        "input_proj.weight",
        "input_proj.bias",
        "score.weight",
        *(f"base.{layer}.lora_{part}.default.weight" for layer in layers for part in "AB"),
    }
    assert list(weights["score.weight"].shape) == HEAD_SHAPES[head]
    assert list(weights["input_proj.weight"].shape) == [32, ITEM_DIM]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_folder_holds_config_weights_and_the_code_that_loads_them_and_nothing_else(saved):
    _, directory = saved()
    assert {file.name for file in directory.iterdir()} == {
        "config.json",
        "model.safetensors",
        "bases.py",
        "item_config.py",
        "configuration_e4srec.py",
        "histories.py",
        "modeling_e4srec.py",
        "pipeline.py",
        "reading.py",
        "ranking.py",
        "recommender.py",
        "saving.py",
    }
    assert json.loads((directory / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_e4srec.E4SRecConfig",
        "AutoModel": "modeling_e4srec.E4SRecModel",
    }


def test_a_full_model_needs_no_other_repo(saved, base_dir):
    _model, directory = saved(tuning="full")
    assert str(base_dir) not in (directory / "config.json").read_text()
    assert any(
        name.startswith("base.layers.0.mlp.gate_proj.weight") for name in load_file(directory / "model.safetensors")
    )
    with pytest.raises(ValueError, match="brings its base along, in float32: leave out base_model"):
        AutoModel.from_pretrained(directory, base_model=base_dir)


def test_a_base_inside_the_folder_moves_with_it(make_model, tmp_path):
    base = make_tiny_base(tmp_path / "model" / "base", hidden_size=32)
    model = make_model(base)
    model.save_pretrained(tmp_path / "model")
    assert AutoConfig.from_pretrained(tmp_path / "model").base_model_name_or_path == "./base"
    assert model.config.base_model_name_or_path == base
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    ids, mask = random_batch()
    moved = AutoModel.from_pretrained(tmp_path / "elsewhere")
    assert torch.equal(moved(ids, mask).logits, model(ids, mask).logits)
    moved.save_pretrained(tmp_path / "again")  # whose base stays where it is
    assert AutoConfig.from_pretrained(tmp_path / "again").base_model_name_or_path == str(
        tmp_path / "elsewhere" / "base"
    )
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "again")(ids, mask).logits, model(ids, mask).logits)


def test_a_base_named_by_a_relative_path_is_found_from_anywhere(saved, base_dir, tmp_path, monkeypatch):
    _, directory = saved()
    shutil.copytree(base_dir, tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    AutoModel.from_pretrained(directory, base_model="./here").save_pretrained(tmp_path / "again")
    monkeypatch.chdir("/")
    assert AutoModel.from_pretrained(tmp_path / "again").config.base_model_name_or_path == str(tmp_path / "here")


def test_a_base_that_is_said_to_be_inside_the_folder_must_be_there(tmp_path):
    with pytest.raises(ValueError, match=r"its base is inside it \(./base\), where it is not: pass base_model="):
        recorded_base(E4SRecConfig(base_model_name_or_path="./base"), tmp_path)
    with pytest.raises(ValueError, match=r"its base is ./../elsewhere, which leads out of it: do not trust it"):
        recorded_base(E4SRecConfig(base_model_name_or_path="./../elsewhere"), tmp_path)


def test_a_loaded_base_can_be_handed_over(saved, base_dir):
    model, directory = saved()
    base = AutoModel.from_pretrained(base_dir)
    loaded = AutoModel.from_pretrained(directory, base_model=base)
    ids, mask = random_batch()
    assert loaded.base.embed_tokens.weight is base.embed_tokens.weight
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)


def test_the_prompt_is_put_into_the_tokens_of_another_base(saved, tmp_path):
    model, directory = saved()
    other = make_tiny_base(tmp_path / "other", hidden_size=32, texts=["quite other words, and so other tokens"])
    loaded = AutoModel.from_pretrained(directory, base_model=other)
    expected = AutoTokenizer.from_pretrained(other).encode(model.config.instruction, add_special_tokens=False)
    assert loaded.config.instruction_ids == loaded.instruction_ids.tolist() == expected
    assert expected != model.config.instruction_ids


def test_dtype_and_attention_go_to_the_base(saved):
    _, directory = saved()
    loaded = AutoModel.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation="eager")
    assert loaded.dtype == loaded.base.layers[0].mlp.gate_proj.base_layer.weight.dtype == torch.bfloat16
    assert loaded.input_proj.weight.dtype == torch.float32
    assert loaded.base.config._attn_implementation == "eager"


def test_a_full_model_takes_a_dtype_and_one_device(saved):
    _, directory = saved(tuning="full")
    for dtype in (torch.bfloat16, "bfloat16"):
        loaded = AutoModel.from_pretrained(directory, dtype=dtype, device_map={"": "cpu"})
        assert loaded.dtype == torch.bfloat16
        assert loaded.score.weight.dtype == torch.float32
    for device_map in ("auto", "balanced"):
        assert AutoModel.from_pretrained(directory, device_map=device_map).device.type == (
            "cuda" if torch.cuda.is_available() else "cpu"
        )
    eager = E4SRecModel.from_pretrained(directory, attn_implementation="eager")
    assert eager.base.config._attn_implementation == "eager"
    model, directory = saved(tuning="full")
    assert E4SRecModel.from_pretrained(directory, config=model.config).dtype == torch.float32
    with pytest.raises(ValueError, match="stays on one device, but device_map names"):
        AutoModel.from_pretrained(directory, device_map={"a": "cpu", "b": "cuda"})


def test_a_base_trained_on_in_bfloat16_is_loaded_in_bfloat16_again(saved):
    model, directory = saved(dtype=torch.bfloat16)
    loaded = AutoModel.from_pretrained(directory)
    ids, mask = random_batch()
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)


def test_lora_settings_may_hold_a_set(saved):
    _, directory = saved(lora={"r": 4, "target_modules": {"q_proj", "k_proj"}})
    assert AutoModel.from_pretrained(directory).config.lora["target_modules"] == ["k_proj", "q_proj"]


@pytest.mark.slow
def test_a_base_quantized_to_4_bits_is_saved_without_and_trains(saved, base_dir, item_tokenizer):
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    model, directory = saved(quantization_config=quantization)
    assert model.is_quantized
    assert model.is_loaded_in_4bit
    assert all("base_layer" not in name for name in load_file(directory / "model.safetensors"))
    loaded = AutoModel.from_pretrained(directory, quantization_config=quantization)
    ids, mask = random_batch()
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)
    model.train()
    model(ids, mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    gradients = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert "base.layers.0.mlp.gate_proj.lora_A.default.weight" in gradients


def test_a_base_of_another_hidden_size_is_refused(saved, tmp_path):
    _, directory = saved()
    other = make_tiny_base(tmp_path / "wide", hidden_size=64)
    with pytest.raises(ValueError, match=r"input_proj.weight is \(32, 12\) in the file, the model needs \(64, 12\)"):
        AutoModel.from_pretrained(directory, base_model=other)


def test_a_base_with_fewer_layers_is_refused(saved, tmp_path):
    _, directory = saved()
    other = make_tiny_base(tmp_path / "shallow", hidden_size=32, num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"surplus: base.layers.1.mlp.gate_proj.lora_A"):
        AutoModel.from_pretrained(directory, base_model=other)


def test_a_base_that_does_not_exist_is_named(saved, monkeypatch):
    _, directory = saved()
    change_config(directory, base_model_name_or_path="/no/such/base")
    with pytest.raises(OSError, match=r"base model '/no/such/base' could not be loaded(.|\n)*pass base_model="):
        AutoModel.from_pretrained(directory)


def test_an_adapter_without_a_recorded_base_asks_for_one(make_model, base_dir, tmp_path, caplog):
    base = AutoModel.from_pretrained(base_dir)
    base.config.name_or_path = ""
    model = make_model(base)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not say which base it needs: pass base_model="):
        AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("score.weight"), "missing: score.weight"),
        (lambda weights: weights.update(extra=torch.zeros(2)), "surplus: extra"),
        (
            lambda weights: weights.update({"input_proj.bias": torch.zeros(3)}),
            r"misshapen: input_proj.bias is \(3,\) in the file, the model needs \(32,\)",
        ),
        (
            lambda weights: weights.update({"item_embeddings.weight": torch.zeros(VOCAB + 1, ITEM_DIM)}),
            r"misshapen: item_embeddings.weight is \(33, 12\) in the file, the model needs \(32, 12\)",
        ),
        (
            lambda weights: weights.pop("base.layers.1.mlp.up_proj.lora_B.default.weight"),
            "missing: base.layers.1.mlp.up_proj.lora_B.default.weight",
        ),
    ],
)
def test_a_tensor_that_is_missing_surplus_or_misshapen_is_named(change, message, saved):
    _, directory = saved()
    change_weights(directory, change)
    with pytest.raises(ValueError, match=f"does not fit this model:\n  {message}"):
        AutoModel.from_pretrained(directory)


def test_a_config_of_a_newer_format_is_refused(saved):
    _, directory = saved()
    change_config(directory, format_version=3)
    with pytest.raises(ValueError, match="format_version 3, this code reads up to 2"):
        AutoModel.from_pretrained(directory)


def test_pickled_weights_are_never_read(saved):
    _, directory = saved()
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModel.from_pretrained(directory)


def test_a_pickled_base_is_never_read(saved, base_dir, tmp_path):
    _, directory = saved()
    shutil.copytree(base_dir, tmp_path / "pickled")
    torch.save(load_file(tmp_path / "pickled" / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    with pytest.raises(OSError, match="could not be loaded"):
        AutoModel.from_pretrained(directory, base_model=tmp_path / "pickled")


def test_a_cut_off_file_is_named(saved):
    _, directory = saved()
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a complete safetensors file"):
        AutoModel.from_pretrained(directory)


def test_an_unknown_argument_is_refused(saved):
    _, directory = saved()
    with pytest.raises(TypeError, match=r"does not know the argument.* max_histroy"):
        E4SRecModel.from_pretrained(directory, max_histroy=3)


def test_a_setting_can_be_overridden_while_loading(saved):
    _, directory = saved()
    assert E4SRecModel.from_pretrained(directory, max_history=3).config.max_history == 3
    assert AutoModel.from_pretrained(directory, max_history=3).config.max_history == 3


def test_a_save_that_fails_leaves_the_old_files_whole(saved, monkeypatch):
    model, directory = saved()
    before = {file.name: file.read_bytes() for file in directory.iterdir()}

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("e4srec_hf.modeling.saving.save_file", fail)
    model.config.max_history = 7
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(directory)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(directory.parent / "fresh")
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


@pytest.mark.parametrize("kind", ["e4srec", "sasrec"])
def test_a_folder_with_files_of_two_saves_is_refused(kind, make_model, base_dir, tmp_path):
    def save(name, max_history):
        if kind == "sasrec":
            model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=8, dropout=max_history / 100))
        else:
            model = make_model(base_dir, max_history=max_history)
            model.score.weight.data *= max_history
        model.save_pretrained(tmp_path / name)

    save("old", 20)
    save("new", 10)
    AutoModel.from_pretrained(tmp_path / "old")
    shutil.copy(tmp_path / "new" / "config.json", tmp_path / "old")
    with pytest.raises(ValueError, match=r"its config\.json are of different saves"):
        AutoModel.from_pretrained(tmp_path / "old")


def test_a_setting_changed_in_config_json_is_no_other_save(saved):
    _model, directory = saved()
    change_config(directory, max_history=3)
    assert AutoModel.from_pretrained(directory).config.max_history == 3


def test_a_tokenizer_of_another_catalogue_is_not_saved(saved, item_tokenizer, tmp_path):
    model, _directory = saved()
    other = build_item_tokenizer(["a", "b"])
    with pytest.raises(ValueError, match=f"tokenizer has 4 items and special tokens, not {VOCAB}"):
        model.save_pretrained(tmp_path / "other", tokenizer=other)
    assert not (tmp_path / "other").exists()


def test_a_tokenizer_that_no_longer_fits_is_named_when_the_model_is_saved(saved, item_tokenizer, propagating, caplog):
    model, directory = saved()
    model.save_pretrained(directory, tokenizer=item_tokenizer)
    add_items(model, item_tokenizer, ["one more"], torch.ones(1, ITEM_DIM))
    model.save_pretrained(directory)
    assert "tokenizer.json is for another catalogue than this model" in caplog.text


@pytest.mark.slow
def test_remote_code_loads_trains_saves_and_loads_again_without_the_package(saved, item_tokenizer, tmp_path):
    model, directory = saved()
    item_tokenizer.save_pretrained(directory)
    ids, mask = random_batch()
    torch.save({"ids": ids, "mask": mask, "logits": model(ids, mask).logits.detach()}, tmp_path / "expected.pt")
    script = textwrap.dedent(
        """
        import sys
        import torch
        from transformers import AutoModel, AutoTokenizer
        directory, again, expected = sys.argv[1:]
        data = torch.load(expected)
        model = AutoModel.from_pretrained(directory, trust_remote_code=True)
        assert model.__module__.startswith("transformers_modules."), model.__module__
        assert torch.equal(model(data["ids"], data["mask"]).logits, data["logits"])
        items = AutoTokenizer.from_pretrained(directory)
        assert items(["item 3"], is_split_into_words=True)["input_ids"] == [5]
        model.train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        labels = data["ids"].masked_fill(data["mask"] == 0, -100)
        model(data["ids"], data["mask"], labels=labels).loss.backward()
        optimizer.step()
        model.eval()
        trained = model(data["ids"], data["mask"]).logits
        assert not torch.equal(trained, data["logits"])
        model.save_pretrained(again)
        loaded = AutoModel.from_pretrained(again, trust_remote_code=True)
        assert torch.equal(loaded(data["ids"], data["mask"]).logits, trained)
        """
    )
    again = tmp_path / "again"
    run_without_package(script, directory, again, tmp_path / "expected.pt", folder=tmp_path)
    assert {file.name for file in again.glob("*.py")} == {file.name for file in directory.glob("*.py")}
    for file in again.glob("*.py"):
        assert file.read_bytes() == (directory / file.name).read_bytes()
