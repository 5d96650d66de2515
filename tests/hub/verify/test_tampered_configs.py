"""A config with which no model can be built or used fails, whatever the type of the value."""

import json

import pytest
import torch

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel
from e4srec_hf.evaluation.fingerprint import folder_fingerprint
from e4srec_hf.files import write_json
from e4srec_hf.hub.verify import verify
from e4srec_hf.training.saving import save_trained
from tests.conftest import VOCAB
from tests.hub.verify.tampering import WEIGHTS, change_json, change_weights, config, find, weights, write


def lora(**changes):
    def tamper(folder):
        file = folder / "config.json"
        content = json.loads(file.read_text())
        content["lora"] |= changes
        file.write_text(json.dumps(content))

    return tamper


def without(name):
    def tamper(folder):
        file = folder / "config.json"
        content = json.loads(file.read_text())
        del content[name]
        file.write_text(json.dumps(content))

    return tamper


def replaced(name, text):
    """The value of a field as text that Python's JSON also writes otherwise."""

    def tamper(folder):
        change_json(folder / "config.json", **{name: "@"})
        file = folder / "config.json"
        file.write_text(file.read_text().replace('"@"', text))

    return tamper


def value(name, index, number):
    def change(tensors):
        tensors[name].view(-1)[index] = number

    return weights(change)


def as_dtype(dtype, *names):
    return weights(lambda w: w.update({name: w[name].to(dtype) for name in names or list(w)}))


def broken_in_half(dtype, number):
    def change(tensors):
        for name in tensors:
            tensors[name] = tensors[name].to(dtype)
        tensors["score.weight"][3, 5] = number

    return weights(change)


VALUES = {
    "max_history": [0, -1, 2.5, "50", True, None, 10**12, [50]],
    "vocab_size": [0, -5, 32.0, "many", True, 10**30],
    "base_layers": [0, 3, -1, 1.0, "1", True, 10**9],
    "item_embedding_dim": [0, -1, 12.0, "12"],
    "instruction_ids": [[-1], [1.0], [True], ["1"], [[1]], "1", [10**40], 3, []],
    "response_ids": [[-3], [2.5], {}],
    "instruction": [3, ["a"], None],
    "retired_items": [[1], [VOCAB], [-1], [2.0], "2", [10**20]],
    "grown_from": [[1], [VOCAB], [9, 4], ["9"]],
    "head": ["cubic", 1, None],
    "tuning": ["half", False],
    "projection_init": ["zero", 0],
    "train_item_embeddings": ["yes", 1, None],
    "item_dropout": [-0.1, 1, "0", True],
    "base_dropout": [1.5, None],
    "format_version": [0, 2, "1", None],
    "pad_token_id": [1, None, 0.0, False],
    "lora": [None, [], "r", {}],
    "base_config": [[], "x", 5],
    "dtype": ["float64", 3, ["float32"], "int8"],
    "is_encoder_decoder": [True],
    "base_model_revision": [3, "main\nx"],
}
LORA_VALUES = {
    "r": [0, -4, 4.0, "4", True, 10**9],
    "lora_alpha": [0, -16, "16", None, True, 1e300, [16]],
    "lora_dropout": [-0.5, 1.0, "0"],
    "target_modules": [".*_proj", "(a+)+$", ["(x|x)*y"], "up_proj|down_proj", ["up_proj", ""], 5, {"a": 1}, ["a\n"]],
    "exclude_modules": ["(a+)+$", 3],
    "layers_pattern": ["(a|a)*b"],
    "rank_pattern": [{"(a+)+$": 4}, {"up_proj": 0}, {"up_proj": 4.5}, [4]],
    "alpha_pattern": [{".*": 4}, {"up_proj": -1}],
    "modules_to_save": [["(a+)+"]],
    "layers_to_transform": [-1, [1.5], "1"],
    "bias": ["all", None],
    "init_lora_weights": ["pissa", 1, "eva"],
    "use_dora": ["yes", 1],
    "task_type": [["a"], 3],
}
TAMPERED = {
    **{
        f"{name} is {value!r:.20}": (config(**{name: value}), "config.json", rf"{name}|no model|no tokens|lora|base")
        for name, values in VALUES.items()
        for value in values
    },
    **{
        f"lora {name} is {value!r:.20}": (lora(**{name: value}), "config.json", f"{name}=|lora changes")
        for name, values in LORA_VALUES.items()
        for value in values
    },
    **{
        f"no {name}": (without(name), "config.json", f"lacks the field '{name}'")
        for name in ("max_history", "lora", "instruction_ids", "head", "vocab_size", "retired_items")
    },
    "not a number": (replaced("item_dropout", "NaN"), "config.json", "NaN is not a number"),
    "infinity": (replaced("item_dropout", "-Infinity"), "config.json", "-Infinity is not a number"),
    "a number beyond all": (replaced("item_dropout", "1e999"), "config.json", "1e999 is too large"),
    "a number of 5,000 digits": (replaced("max_history", "9" * 5000), "config.json", "is not valid JSON"),
    "a config that is a number": (write("config.json", "3"), "config.json", "has the model type None"),
    "a config that is null": (write("config.json", "null"), "config.json", "has the model type None"),
    "a config that is not UTF-8": (write("config.json", b'{"a": "\xff"}'), "config.json", "is not valid JSON"),
    # the values of the weights
    "NaN in the head": (value("score.weight", 7, float("nan")), WEIGHTS, "score.weight has NaN or infinity"),
    "infinity in the items": (value("item_embeddings.weight", -1, float("inf")), WEIGHTS, "item_embeddings.weight has"),
    "minus infinity in a bias": (value("input_proj.bias", 0, -float("inf")), WEIGHTS, "input_proj.bias has NaN"),
    "NaN in LoRA": (
        value("base.layers.1.mlp.up_proj.lora_B.default.weight", 5, float("nan")),
        WEIGHTS,
        "lora_B.default.weight has NaN",
    ),
    "NaN in bfloat16": (broken_in_half(torch.bfloat16, float("nan")), WEIGHTS, "score.weight has NaN"),
    "infinity in float16": (broken_in_half(torch.float16, float("inf")), WEIGHTS, "score.weight has NaN"),
    "whole numbers": (as_dtype(torch.int32, "score.weight"), WEIGHTS, "score.weight has the dtype I32"),
    "double precision": (as_dtype(torch.float64), WEIGHTS, "has the dtype F64"),
    "eight bits": (as_dtype(torch.float8_e4m3fn, "input_proj.bias"), WEIGHTS, "has the dtype F8_E4M3"),
    "a transposed head": (
        weights(lambda w: w.update({"input_proj.weight": w["input_proj.weight"].T.contiguous()})),
        WEIGHTS,
        "misshapen: input_proj.weight",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_cannot_be_loaded_or_used_fails(name, fresh):
    tamper, where, what = TAMPERED[name]
    tamper(fresh)
    verification = verify(fresh)
    assert verification.exit_status == 1
    assert find(verification, where, what), str(verification)


def test_large_finite_numbers_pass(fresh):
    """Whose sum overflows."""
    change_weights(fresh, lambda w: w["score.weight"].fill_(3e38))
    without("weights_digest")(fresh)
    assert verify(fresh).findings == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_the_file_passes(dtype, fresh, item_tokenizer):
    E4SRecModel.from_pretrained(fresh).save_pretrained(fresh, dtype=dtype)
    assert verify(fresh).findings == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"max_history": 0},
        {"hidden_size": 8.0},
        {"num_hidden_layers": 2048},
        {"num_attention_heads": 3},
        {"dropout": 1.0},
        {"loss": "hinge"},
        {"num_negatives": 0},
        {"retired_items": [VOCAB]},
        {"lora": {}},
    ],
)
def test_a_sasrec_that_cannot_be_used_fails(changes, item_tokenizer, tmp_path):
    save_trained(SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=8)), item_tokenizer, tmp_path)
    assert verify(tmp_path).findings == ()
    change_json(tmp_path / "config.json", **changes)
    assert find(verify(tmp_path), "config.json", next(iter(changes)))


def test_retired_items_pass_and_older_code_must_not_read_them(fresh):
    change_json(fresh / "config.json", retired_items=[4, 9], format_version=2)
    assert verify(fresh).findings == ()
    change_json(fresh / "config.json", format_version=1)
    assert find(verify(fresh), "config.json", "format_version is not 2")


def test_figures_of_other_weights_fail(fresh):
    write_json(fresh / "evaluation.json", {"fingerprint": folder_fingerprint(fresh), "full": {}})
    assert verify(fresh).findings == ()
    change_weights(fresh, lambda w: w["score.weight"].mul_(2))
    assert find(verify(fresh), "evaluation.json", "figures of another model")
