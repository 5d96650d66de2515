"""The base of a training: looked at before anything is trained, and quantized as asked."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from e4srec_hf.training.adapter import adapter_settings, check_access, check_titles
from e4srec_hf.training.arguments import UsageError, parse_arguments
from e4srec_hf.training.tiny_base import make_tiny_base


def parsed(*flags):
    _, adapter, _, training = parse_arguments(["--dataset", "demo", *map(str, flags)])
    return adapter, training


def test_a_base_of_pickles_is_refused_before_anything_is_trained(base_dir, tmp_path):
    check_access(*parsed("--base_model", base_dir))
    old = tmp_path / "old"
    shutil.copytree(base_dir, old)
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"--base_model .*old cannot be used: .* are in pytorch_model\.bin"):
        check_access(*parsed("--base_model", old))


@pytest.mark.parametrize(("flags", "bits"), [([], None), (["--load_in_4bit"], 4), (["--load-in-8bit", "true"], 8)])
def test_the_base_is_quantized_as_asked(flags, bits):
    found = adapter_settings(parsed(*flags)[0]).get("quantization_config")
    assert (found is None) if bits is None else getattr(found, f"load_in_{bits}bit")


def test_a_base_is_quantized_one_way():
    with pytest.raises(UsageError, match="--load_in_4bit and --load_in_8bit exclude each other"):
        parsed("--load_in_4bit", "--load_in_8bit")


def test_a_base_too_narrow_for_4_bits_is_refused_before_anything_is_trained(base_dir, tmp_path):
    wide = make_tiny_base(tmp_path / "wide", hidden_size=64, intermediate_size=96 * 2)
    narrow = make_tiny_base(tmp_path / "narrow", hidden_size=64, intermediate_size=96)
    cpu = ("--use_cpu", "true")
    for base in (["--base_model", base_dir], ["--made_base_hidden_size", 32], ["--base_model", narrow]):
        check_access(*parsed(*base, *cpu, "--load_in_8bit"))
        with pytest.raises(ValueError, match=r"^--load_in_4bit: on a CPU .* of the base goes from (32|96) to"):
            check_access(*parsed(*base, *cpu, "--load_in_4bit"))
    for base in ([], ["--base_model", wide]):
        check_access(*parsed(*base, *cpu, "--load_in_4bit"))
    check_access(*parsed("--made_base_hidden_size", 6, "--made_base_heads", 3))


@pytest.mark.parametrize("name", ["nosuch", ".*_proj", "proj", "layers"])
def test_names_that_lora_does_not_find_are_refused_before_anything_is_trained(base_dir, name):
    for base in ([], ["--base_model", base_dir]):
        check_access(*parsed(*base, "--lora_target_modules", "q_proj", "mlp.up_proj"))
        with pytest.raises(ValueError, match=r"--lora_target_modules .*: the base has no linear layer .* up_proj"):
            check_access(*parsed(*base, "--lora_target_modules", "q_proj", name))


def test_more_layers_than_the_base_has_are_refused_before_anything_is_trained(base_dir):
    for base in ([], ["--base_model", base_dir]):
        adapter, training = parsed(*base, "--base_layers", 2)
        check_access(adapter, training)
        assert adapter_settings(adapter)["base_layers"] == 2
        with pytest.raises(ValueError, match="--base_layers 3: the base has only 2 layers"):
            check_access(*parsed(*base, "--base_layers", 3))
    with pytest.raises(UsageError, match="--base_layers must be at least 1, not 0"):
        parsed("--base_layers", 0)


@pytest.mark.parametrize("kind", ["e4srec", "sasrec"])
def test_a_model_of_this_package_is_no_base(tmp_path, kind):
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(ValueError, match=rf"\(model_type {kind}\), not a base"):
        check_access(*parsed("--base_model", tmp_path))


@pytest.mark.parametrize("name", ["table.pkl", "table.pt", "table"])
def test_item_vectors_in_another_format_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="e4srec import-reference converts"):
        check_access(*parsed("--item_embeddings", tmp_path / name))


def test_titles_need_a_tokenizer_of_the_base(base_dir, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(base_dir, base, ignore=shutil.ignore_patterns("tokenizer*"))
    flags = ["--base_model", base, "--instruction", "", "--response", ""]
    check_access(*parsed(*flags))
    with pytest.raises(ValueError, match=r"--base_model .*base cannot be used"):
        check_access(*parsed(*flags, "--item_text", "true"))


@pytest.mark.parametrize("titles", [{}, {"a": "A"}, {"a": "A", "b": " "}, {"a": "A", "b": "A "}])
def test_titles_that_tell_no_items_apart_are_refused_before_anything_is_trained(titles):
    check_titles(parsed("--item_text", "true")[0], "log.txt", {"a": "A", "b": "B"})
    check_titles(parsed()[0], "log.txt", titles)
    with pytest.raises(ValueError, match=r"--item_text true: log\.txt has no titles that tell its items apart"):
        check_titles(parsed("--item_text", "true")[0], "log.txt", titles)
