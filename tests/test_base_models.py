"""A base before it is loaded."""

import shlex
import shutil
import subprocess
import sys
import time

import pytest
import torch
from huggingface_hub import hf_api
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoModel, AutoModelForCausalLM

from e4srec_hf.base_models import check_weight_files, quantization
from e4srec_hf.training.tiny_base import make_tiny_base


@pytest.mark.slow
def test_weights_in_pickles_are_refused_with_a_way_out_that_works(base_dir, tmp_path):
    old = tmp_path / "it's old"
    shutil.copytree(base_dir, old)
    model = AutoModelForCausalLM.from_pretrained(base_dir)
    torch.save(model.state_dict(), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"are in pytorch_model\.bin\. Only safetensors files are read") as refused:
        check_weight_files(old)
    assert "\n" not in str(refused.value)
    _, dash_c, code = shlex.split(str(refused.value)[str(refused.value).index("python -c") :])
    subprocess.run([sys.executable, dash_c, code], cwd=tmp_path, check=True)
    check_weight_files(tmp_path / "it's old-safetensors")
    again = AutoModel.from_pretrained(tmp_path / "it's old-safetensors", use_safetensors=True)
    assert torch.equal(again.embed_tokens.weight, model.model.embed_tokens.weight)
    assert (tmp_path / "it's old-safetensors" / "tokenizer.json").exists()


@pytest.mark.parametrize(
    "file",
    [
        "pytorch_model-00001-of-00002.bin",
        "consolidated.00.pth",
        "tf_model.h5",
        "flax_model.msgpack",
        "model.pt",
    ],
)
def test_weights_in_other_formats_are_refused_and_named(base_dir, tmp_path, file):
    shutil.copytree(base_dir, tmp_path / "base")
    (tmp_path / "base" / file).write_bytes(b"")
    check_weight_files(tmp_path / "base")  # there are safetensors too
    (tmp_path / "base" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"are in {file}"):
        check_weight_files(tmp_path / "base")
    (tmp_path / "base" / file).rename(tmp_path / "base" / "training_args.bin")
    check_weight_files(tmp_path / "base")  # no weights at all


def test_weights_on_the_hub_are_looked_at_by_name(hub_here):
    hub_here.commit("org/old", {"config.json": b"{}", "pytorch_model.bin": b"", "README.md": b""})
    hub_here.commit("org/new", {"config.json": b"{}", "pytorch_model.bin": b"", "model.safetensors": b""})
    check_weight_files("org/new")
    with pytest.raises(ValueError, match=r"the base org/old are in pytorch_model\.bin"):
        check_weight_files("org/old")


@pytest.mark.parametrize(("bits", "error"), [(4, 0.3), (8, 0.02)])
def test_a_quantized_base_scores_nearly_the_same(make_model, tmp_path, bits, error):
    model = make_model(make_tiny_base(tmp_path / "base", hidden_size=64, num_attention_heads=4))
    model.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[4, 9, 2]])
    arguments = quantization(bits == 4, bits == 8, "cpu")
    quantized = AutoModel.from_pretrained(tmp_path / "adapter", **arguments)
    with torch.no_grad():
        apart = (quantized(ids).logits - model(ids).logits).norm() / model(ids).logits.norm()
    assert 0 < apart < error
    assert getattr(quantized, f"is_loaded_in_{bits}bit")


def test_a_base_is_quantized_one_way_or_not_at_all():
    assert quantization(False, False, "cpu") == {}
    with pytest.raises(ValueError, match="exclude each other"):
        quantization(True, True, "cpu")


def test_a_base_is_not_looked_at_where_the_hub_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(hf_api.api, "endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    began = time.perf_counter()
    check_weight_files("org/base")
    assert time.perf_counter() - began < 5


def test_a_base_that_the_hub_does_not_have_is_an_error(hub_here):
    with pytest.raises(RepositoryNotFoundError):
        check_weight_files("org/nothing")
