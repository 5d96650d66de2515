"""A base inside the repo: its index stays in its folder, and its files hold exactly its tensors."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from e4srec_hf.hub.verify import verify
from e4srec_hf.hub.verify.bases import check_base_config
from tests.hub.verify.tampering import WEIGHTS, base_config, change_json, find, write

INDEX = f"base/{WEIGHTS}.index.json"
SINGLE = f"base/{WEIGHTS}"


def sharded(folder):
    """Store the base in several files with an index."""
    model = AutoModel.from_pretrained(folder / "base")
    (folder / "base" / WEIGHTS).unlink()
    model.save_pretrained(folder / "base", max_shard_size="40KB")
    assert len(list((folder / "base").glob("model-*.safetensors"))) > 2


def weights(change):
    def tamper(folder):
        tensors = load_file(folder / SINGLE)
        change(tensors)
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})

    return tamper


def index(change):
    def tamper(folder):
        sharded(folder)
        content = json.loads((folder / INDEX).read_text())
        change(content)
        (folder / INDEX).write_text(json.dumps(content))

    return tamper


def first_shard_named(name):
    return index(lambda content: content["weight_map"].update({next(iter(content["weight_map"])): name}))


def shard(change):
    def tamper(folder):
        sharded(folder)
        change(min((folder / "base").glob("model-*.safetensors")))

    return tamper


def without_a_tensor(file: Path):
    tensors = load_file(file)
    tensors.pop(min(tensors))
    save_file(tensors, file, metadata={"format": "pt"})


def with_a_tensor(file: Path):
    save_file(load_file(file) | {"extra": torch.zeros(2)}, file, metadata={"format": "pt"})


def with_prefix(tensors):
    tensors["model.norm.weight"] = tensors["norm.weight"].clone()


def rope(**changes):
    return base_config(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0} | changes)


def value(number):
    return weights(lambda w: w["layers.0.mlp.up_proj.weight"].view(-1)[3:4].fill_(number))


TAMPERED = {
    # the index
    "an index that leads out": (first_shard_named("../model.safetensors"), INDEX, "names the file '../model"),
    "an index with an absolute path": (first_shard_named("/etc/x.safetensors"), INDEX, "names the file '/etc"),
    "an index into a folder": (first_shard_named("a/b.safetensors"), INDEX, "names the file 'a/b"),
    "an index with a path of Windows": (first_shard_named("..\\x.safetensors"), INDEX, "names the file"),
    "an index with a URL": (first_shard_named("https://evil.example/x.safetensors"), INDEX, "names the file"),
    "an index of a pickle": (first_shard_named("pytorch_model.bin"), INDEX, "names the file 'pytorch_model.bin'"),
    "an index of a number": (first_shard_named(3), INDEX, "names the file 3"),
    "an index of a file that is missing": (first_shard_named("x.safetensors"), "base/x.safetensors", "is missing"),
    "an index of nothing": (index(lambda content: content.update(weight_map={})), INDEX, "is not an index"),
    "an index that is a list": (lambda folder: (sharded(folder), write(INDEX, "[]")(folder)), INDEX, "not an index"),
    "an index with more in it": (index(lambda content: content.update(auto_map={})), INDEX, "not an index|has an auto"),
    "a tensor that the index lacks": (
        index(lambda content: content["weight_map"].popitem()),
        r"base/model-.*",
        "do not name the same tensors",
    ),
    "a tensor that no file has": (
        index(lambda content: content["weight_map"].update(extra=min(content["weight_map"].values()))),
        r"base/model-.*",
        r"do not name the same tensors: \['extra'\]",
    ),
    "an index without metadata": (index(lambda content: content.pop("metadata")), INDEX, "is not an index"),
    "an index with metadata that is a text": (
        index(lambda content: content.update(metadata="x")),
        INDEX,
        "its metadata is no object",
    ),
    # the files
    "a file that lacks a tensor": (shard(without_a_tensor), r"base/model-.*", "do not name the same tensors"),
    "a file with one more": (shard(with_a_tensor), r"base/model-.*", r"same tensors: \['extra'\]"),
    "a file that is missing": (shard(Path.unlink), r"base/model-.*", "is missing; the index names it"),
    "a file that is cut off": (
        shard(lambda file: file.write_bytes(file.read_bytes()[:-5])),
        r"base/model-.*",
        "is not a complete safetensors file",
    ),
    "a further file": (
        shard(lambda file: shutil.copy(file, file.with_name("more.safetensors"))),
        "base/more.safetensors",
        "is not in the index",
    ),
    "a further file beside a single one": (
        lambda folder: shutil.copy(folder / SINGLE, folder / "base/more.safetensors"),
        "base/more.safetensors",
        "is in no index",
    ),
    "a linked file": (
        shard(lambda file: (file.rename(file.parent.parent.parent / "x"), file.symlink_to("../../x"))),
        r"base/model-.*",
        "is a link|is missing",
    ),
    "no weights": (lambda folder: (folder / SINGLE).unlink(), SINGLE, "is missing"),
    "a base that is a pickle": (lambda folder: (folder / SINGLE).write_bytes(b"\x80\x04N."), SINGLE, "begins like"),
    "a base cut off": (
        lambda folder: (folder / SINGLE).write_bytes((folder / SINGLE).read_bytes()[:-4]),
        SINGLE,
        "is not a complete safetensors file",
    ),
    # the tensors
    "a base that lacks a tensor": (weights(lambda w: w.pop("norm.weight")), SINGLE, "missing: norm.weight"),
    "a base that lacks a layer": (
        weights(lambda w: [w.pop(name) for name in list(w) if name.startswith("layers.1.")]),
        SINGLE,
        r"missing: layers\.1\.",
    ),
    "a surplus tensor": (weights(lambda w: w.update(extra=torch.zeros(2))), SINGLE, "surplus: extra"),
    "a misshapen tensor": (
        weights(lambda w: w.update({"norm.weight": torch.ones(33)})),
        SINGLE,
        r"misshapen: norm.weight is \(33,\)",
    ),
    "a head of another size": (
        weights(lambda w: w.update({"lm_head.weight": torch.zeros(3, 32)})),
        SINGLE,
        "misshapen: lm_head.weight",
    ),
    "NaN": (value(float("nan")), SINGLE, "up_proj.weight has NaN or infinity"),
    "infinity": (value(float("inf")), SINGLE, "up_proj.weight has NaN or infinity"),
    "whole numbers": (weights(lambda w: w.update({"norm.weight": torch.ones(32).int()})), SINGLE, "the dtype I32"),
    "double precision": (
        weights(lambda w: w.update({name: tensor.double() for name, tensor in w.items()})),
        SINGLE,
        "the dtype F64",
    ),
    "truth values": (weights(lambda w: w.update({"norm.weight": torch.ones(32).bool()})), SINGLE, "the dtype BOOL"),
    "a tensor by two names": (weights(with_prefix), SINGLE, r"with 'model\.' and without it: \['norm.weight'\]"),
    **{
        f"plain weights, quantized in {bits} bits": (
            base_config(quantization_config={"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}),
            SINGLE,
            "has no packed weights",
        )
        for bits in (4, 8)
    },
    "whole numbers in a quantized base": (
        lambda folder: (
            base_config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})(folder),
            weights(lambda w: w.update({"norm.weight": torch.ones(32).int()}))(folder),
        ),
        SINGLE,
        "norm.weight has the dtype I32 and no scales",
    ),
    # its config against its tensors
    "a dtype that no tensor has": (base_config(dtype="bfloat16"), SINGLE, "has no tensor of the dtype torch.bfloat16"),
    "a dtype that is none": (base_config(dtype="evil"), "base/config.json", "no base can be built"),
    "a layer more": (base_config(num_hidden_layers=3), SINGLE, r"missing: layers\.2\."),
    "a layer fewer": (base_config(num_hidden_layers=1), SINGLE, r"surplus: layers\.1\."),
    "another width": (base_config(intermediate_size=64), SINGLE, "misshapen: .*mlp"),
    "another vocabulary": (base_config(vocab_size=7), "config.json|" + SINGLE, "misshapen|has token"),
    "a number that is a text": (base_config(rms_norm_eps="x"), "base/config.json", "no base can be built"),
    "a negative epsilon": (base_config(rms_norm_eps=-1.0), "base/config.json", "rms_norm_eps"),
    "no heads": (base_config(num_attention_heads=0), "base/config.json", "no base can be built"),
    "an activation that is none": (base_config(hidden_act="evil"), "base/config.json", "no base can be built"),
    "a quantization by others": (base_config(quantization_config={"quant_method": "evil"}), SINGLE, "quantized by"),
    "an encoder and a decoder": (base_config(model_type="t5"), "base/config.json|config.json|" + SINGLE, "."),
    # numbers out of proportion
    **{
        f"{name} is {number!r}": (base_config(**{name: number}), "base/config.json", name)
        for name, number in (
            *(("num_labels", number) for number in (10**6, 10**7, -1)),
            *(("rms_norm_eps", number) for number in (1e9, 0.0, 1)),
            *(("attention_dropout", number) for number in (5, -0.1, 1.0)),
            *(("max_position_embeddings", number) for number in (0, 1, 55, 2**30)),
            *(("pad_token_id", number) for number in (-1, 10**6)),
            ("eos_token_id", [0, -2]),
            ("initializer_range", -1.0),
            ("intermediate_size", 2**26),
        )
    },
    "many labels": (base_config(id2label={n: str(n) for n in range(10_000)}), "base/config.json", "values in id2label"),
    "many labels, the other way": (
        base_config(x={"label2id": {str(n): n for n in range(10_000)}}),
        "base/config.json",
        "values in label2id",
    ),
    **{
        f"rope {name} is {number!r}": (rope(**{name: number}), "base/config.json", name)
        for name, number in (("factor", 0.0), ("factor", -2), ("rope_theta", 0), ("long_factor", [1.0, 0.0]))
    },
    # fields that lead elsewhere, or with which nothing can be read
    **{
        f"{name} is {found!r}": (base_config(**{name: found}), "base/config.json", name)
        for name, found in (
            ("_attn_implementation", "flash_attention_2"),
            ("attn_implementation", "flex_attention"),
            ("return_dict", False),
            ("return_dict", None),
            ("output_hidden_states", True),
            ("transformers_weights", "../x.safetensors"),
            ("transformers_weights", "x.safetensors"),
            ("fast_tokenizer_files", ["tokenizer.x.json"]),
            ("custom_generate", "evil/repo"),
            ("some_field", "/etc/passwd"),
        )
    },
    "a path deep in it": (base_config(x=[{"deep": "file:///etc"}]), "base/config.json", "deep is 'file"),
    "a config that is null": (write("base/config.json", "null"), "base/config.json", "is not a dictionary"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_base_fails(name, fresh):
    tamper, where, what = TAMPERED[name]
    tamper(fresh)
    verification = verify(fresh)
    assert not verification.passed
    if name != "a quantization by others":
        assert find(verification, where, what), str(verification)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3_moe", "gemma3_text", "gpt2", "gpt_neox", "phi3", "bart", "granite"])
def test_the_config_of_an_honest_base_passes(kind):
    content = json.loads(AutoConfig.for_model(kind).to_json_string(use_diff=False))
    assert list(check_base_config("config.json", content, 60)) == []


@pytest.mark.parametrize(
    "change",
    [
        sharded,
        lambda folder: AutoModelForCausalLM.from_pretrained(folder / "base").save_pretrained(folder / "base"),
        lambda folder: (
            AutoModel.from_pretrained(folder / "base", dtype=torch.bfloat16).save_pretrained(folder / "base"),
            change_json(folder / "config.json", dtype="bfloat16"),
        ),
    ],
    ids=["in several files", "with its head", "in half precision"],
)
def test_an_honest_base_passes(change, fresh):
    change(fresh)
    verification = verify(fresh)
    assert verification.passed, str(verification)
    assert verification.findings == ()


def test_a_base_quantized_by_bitsandbytes_passes_and_a_missing_tensor_of_it_fails(fresh):
    name = "layers.0.mlp.up_proj.weight"

    def pack(tensors):
        packed = tensors[name]
        tensors[name] = torch.zeros(packed.numel() // 2, 1, dtype=torch.uint8)
        tensors[f"{name}.absmax"] = torch.ones(packed.numel() // 64)
        tensors[f"{name}.quant_state.bitsandbytes__nf4"] = torch.zeros(80, dtype=torch.uint8)

    weights(pack)(fresh)
    base_config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})(fresh)
    assert verify(fresh).findings == ()
    weights(lambda w: w.pop(name))(fresh)
    assert find(verify(fresh), SINGLE, f"missing: {name}")
