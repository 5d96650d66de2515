"""A base in a GGUF file: dequantized, it is the base that its safetensors would be; what is damaged is refused."""

import json
import os
import struct

import pytest
import torch
from transformers import AutoModel, BitsAndBytesConfig

from e4srec_hf import E4SRecModel
from e4srec_hf.base_models import check_is_base, check_weight_files, gguf_header
from e4srec_hf.evaluation.fingerprint import folder_fingerprint, model_fingerprint
from e4srec_hf.hub import push
from e4srec_hf.modeling import bases
from e4srec_hf.training import save_trained
from e4srec_hf.training.adapter import check_access
from e4srec_hf.training.arguments import parse_arguments
from tests.conftest import INSTRUCTION, RESPONSE, random_batch, stir_lora

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
from tests.gguf_base import write_gguf  # noqa: E402 - it needs gguf

PROMPT = {"instruction": INSTRUCTION, "response": RESPONSE}


@pytest.fixture(scope="module")
def gguf_file(base_dir, tmp_path_factory):
    return write_gguf(base_dir, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_the_base_that_its_safetensors_are(gguf_file, base_dir, item_table):
    model = E4SRecModel.from_base(gguf_file, item_table, **PROMPT)
    same = E4SRecModel.from_base(base_dir, item_table, **PROMPT)
    of_base = {name: tensor for name, tensor in model.base.state_dict().items() if ".lora_" not in name}
    assert of_base.keys() == {name for name in same.base.state_dict() if ".lora_" not in name}
    assert all(torch.equal(tensor, same.base.state_dict()[name]) for name, tensor in of_base.items())
    assert (model.config.instruction_ids, model.config.response_ids) == (
        same.config.instruction_ids,
        same.config.response_ids,
    )
    assert model.config.base_model_name_or_path == str(gguf_file)


def test_nothing_says_that_it_is_quantized(gguf_file, item_table, tmp_path):
    base = bases.open_base(gguf_file, tuning="lora")
    assert not getattr(base, "is_quantized", False)
    assert not hasattr(base, "hf_quantizer")
    assert "quantization_config" not in base.config.to_dict()
    base.save_pretrained(tmp_path / "converted")
    assert same_weights(AutoModel.from_pretrained(tmp_path / "converted"), base)
    whole = E4SRecModel.from_base(gguf_file, item_table, tuning="full", **PROMPT).eval()
    whole.save_pretrained(tmp_path / "whole")
    assert "quantization_config" not in whole.config.base_config
    assert torch.equal(
        AutoModel.from_pretrained(tmp_path / "whole")(*random_batch()).logits, whole(*random_batch()).logits
    )


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
def test_its_blocks_are_unpacked(kind, base_dir, tmp_path):
    kind = gguf.GGMLQuantizationType[kind]
    base = bases.open_base(write_gguf(base_dir, tmp_path / "q.gguf", kind), tuning="lora")
    plain = AutoModel.from_pretrained(base_dir)
    weight = plain.layers[0].mlp.up_proj.weight.numpy(force=True)
    expected = gguf.dequantize(gguf.quantize(weight, kind), kind)
    assert torch.equal(base.layers[0].mlp.up_proj.weight, torch.from_numpy(expected))
    assert not torch.equal(base.layers[0].mlp.up_proj.weight, plain.layers[0].mlp.up_proj.weight)
    assert base.dtype == torch.float32
    half = bases.open_base(tmp_path / "q.gguf", tuning="lora", dtype=torch.bfloat16)
    assert half.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16


def test_what_is_saved_is_what_is_loaded_without_its_tokenizer(gguf_file, base_dir, item_table, tmp_path, monkeypatch):
    model = stir_lora(E4SRecModel.from_base(gguf_file, item_table, base_layers=1, **PROMPT)).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["base_model_name_or_path"] == str(gguf_file)
    monkeypatch.setattr(bases, "text_tokenizer", None)  # the recorded ids will do
    monkeypatch.chdir(gguf_file.parent)
    for base in (None, "tiny.gguf", gguf_file, model):
        loaded = AutoModel.from_pretrained(tmp_path, base_model=base)
        assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)
        assert loaded.config.base_model_name_or_path == str(gguf_file)
    monkeypatch.undo()
    loaded = AutoModel.from_pretrained(tmp_path, base_model=base_dir)
    assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)


def test_the_content_of_the_file_counts_for_the_figures(gguf_file, base_dir, item_table, tmp_path):
    file = write_gguf(base_dir, tmp_path / "base.gguf")
    model = E4SRecModel.from_base(file, item_table, **PROMPT)
    model.save_pretrained(tmp_path / "m")
    before = model_fingerprint(model)
    assert folder_fingerprint(tmp_path / "m") == before
    write_gguf(base_dir, file, gguf.GGMLQuantizationType.Q8_0)
    assert folder_fingerprint(tmp_path / "m") != before


def test_nobody_else_has_the_file(gguf_file, item_table, item_tokenizer, tmp_path, hub_here):
    model = E4SRecModel.from_base(gguf_file, item_table, **PROMPT)
    save_trained(model, item_tokenizer, tmp_path / "m")
    for pushed, options in ((model, {"with_base": True}), (model, {}), (tmp_path / "m", {})):
        with pytest.raises(ValueError, match=r"is a file on this machine, .*tiny\.gguf.* Save it as safetensors"):
            push(pushed, "org/m", tokenizer=item_tokenizer if pushed is model else None, **options)
    with pytest.raises(ValueError, match="Nobody else has the base"):
        model.push_to_hub("org/m")
    assert not hub_here.api.repo_exists("org/m")


def at(place, number):
    return lambda content: content[:place] + struct.pack("<Q", number) + content[place + 8 :]


DAMAGE = {
    "empty": lambda content: b"",
    "text": lambda content: b"This is no model.\n" * 99,
    "its magic alone": lambda content: content[:4],
    "half its header": lambda content: content[:100],
    "half of it": lambda content: content[: len(content) // 2],
    "its last bytes": lambda content: content[:-64],
    "tensors without number": at(8, 2**62),
    "fields without number": at(16, 2**62),
    "a name without end": at(24, 2**63),
    "another version": lambda content: content[:4] + struct.pack("<I", 77) + content[8:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_clear_line(damage, gguf_file, item_table, tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(DAMAGE[damage](gguf_file.read_bytes()))
    with pytest.raises(OSError, match=r"The base model .*bad\.gguf' could not be loaded \(is it a whole GGUF file\?\)"):
        E4SRecModel.from_base(bad, item_table, instruction="", response="")
    if "half of it" not in damage and "last" not in damage:  # the weights are not looked at before they are loaded
        with pytest.raises(ValueError, match=r"bad\.gguf is not a GGUF file, or it is damaged: .*") as refused:
            check_is_base(bad)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "counts",
    [
        {"block_count": 10**9},
        {"block_count": 2**63},
        {"vocab_size": 10**12},
        {"embedding_length": 10**9},
        {"feed_forward_length": 10**12},
        {"attention.head_count": 0},
        {"block_count": 3},
        {"embedding_length": 64},
    ],
    ids=lambda counts: "{} {}".format(*next(iter(counts.items()))),
)
def test_a_header_that_asks_for_what_the_file_does_not_hold_is_refused(counts, base_dir, item_table, tmp_path):
    file = write_gguf(base_dir, tmp_path / "bad.gguf", **counts)
    with pytest.raises((OSError, ValueError), match=r"base model .*bad\.gguf'"):
        E4SRecModel.from_base(file, item_table, instruction="", response="")


def parsed(*flags):
    _, adapter, _, training = parse_arguments(["--dataset", "demo", *map(str, flags)])
    return adapter, training


def test_it_is_looked_at_before_anything_is_trained(gguf_file, base_dir, tmp_path):
    check_access(*parsed("--base_model", gguf_file, "--base_layers", 2, "--lora_target_modules", "q_proj"))
    for flags, problem in (
        (("--load_in_4bit",), "a GGUF file is dequantized: leave out --load_in_4bit"),
        (("--base_layers", 3), "--base_layers 3: the base has only 2 layers"),
        (("--lora_target_modules", "query"), "--lora_target_modules query: the base has no linear layer"),
    ):
        with pytest.raises(ValueError, match=problem):
            check_access(*parsed("--base_model", gguf_file, *flags))
    strange = write_gguf(base_dir, tmp_path / "strange.gguf", architecture="strange")
    with pytest.raises(ValueError, match=r"strange\.gguf cannot be used: .*architecture strange is not supported"):
        check_access(*parsed("--base_model", strange))
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.gguf"):
        check_access(*parsed("--base_model", tmp_path / "none.gguf"))


def test_without_the_package_it_says_what_to_install(gguf_file, monkeypatch):
    monkeypatch.setattr("e4srec_hf.base_models.is_gguf_available", lambda: False)
    with pytest.raises(ValueError, match=r"tiny\.gguf is a GGUF file: pip install 'e4srec-hf\[gguf\]' to read it"):
        gguf_header(gguf_file)


def test_a_folder_with_such_files_asks_for_one_of_them(gguf_file):
    check_weight_files(gguf_file)
    with pytest.raises(ValueError, match=r"is a folder with GGUF files: give the file, .*tiny\.gguf"):
        check_weight_files(gguf_file.parent)


def test_it_is_not_quantized_once_more(gguf_file, item_table):
    with pytest.raises(OSError, match="You cannot combine Quantization and loading a model from a GGUF file"):
        E4SRecModel.from_base(
            gguf_file, item_table, quantization_config=BitsAndBytesConfig(load_in_4bit=True), **PROMPT
        )


def test_one_beside_the_adapter_moves_with_it(base_dir, item_table, tmp_path):
    (tmp_path / "m").mkdir()
    model = E4SRecModel.from_base(write_gguf(base_dir, tmp_path / "m/base.gguf"), item_table, **PROMPT).eval()
    model.save_pretrained(tmp_path / "m")
    os.rename(tmp_path / "m", tmp_path / "moved")
    loaded = AutoModel.from_pretrained(tmp_path / "moved")
    assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)
    assert loaded.config.base_model_name_or_path == str(tmp_path / "moved/base.gguf")
