"""What passes, what cannot be checked, and what a verdict says."""

import json
import os
import shutil
import subprocess

import pytest
import torch
from huggingface_hub import constants

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel, __version__
from e4srec_hf.hub.verify import Verification, verify
from e4srec_hf.hub.verify.findings import failed, note, unchecked
from e4srec_hf.training.saving import save_trained
from tests.conftest import VOCAB
from tests.hub.verify.tampering import WEIGHTS, change_json, change_weights, find, write


def test_a_fresh_folder_passes_without_a_word(fresh):
    verification = verify(fresh)
    assert verification == Verification(str(fresh), None, __version__, ())
    assert verification.passed
    assert verification.exit_status == 0
    assert str(verification) == f"{fresh}: passed\nits Python files are those of release {__version__}, byte for byte"


def test_what_else_lies_in_a_repo_and_does_no_harm_passes(fresh):
    for name, content in {
        "LICENSE": "Apache",
        ".gitattributes": "*.safetensors filter=lfs",
        "item_titles.json": '{"item 1": "auto_map"}',
        "docs/plot.png": b"\x89PNG\r\n",
        "runs/events.out.tfevents.1.host": b"\x18\0\0\0",
        "empty.txt": "",
        "base/merges.txt": "a b",
        "base/special_tokens_map.json": "{}",
    }.items():
        write(name, content)(fresh)
    subprocess.run(["git", "init", "--quiet", fresh], check=True)
    verification = verify(fresh)
    assert verification.passed, str(verification)
    assert [(finding.kind, finding.where) for finding in verification.findings] == [("note", ".git")]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"head": "tied"}),
        ("llama", {"tuning": "full"}),
        ("llama", {"lora": {"r": 3, "use_dora": True, "target_modules": "all-linear"}}),
        ("llama", {"lora": {"r": 3, "rank_pattern": {"up_proj": 5}, "lora_bias": True}}),
        ("gpt2", {}),
        ("opt", {}),
        ("gemma3", {"tuning": "full"}),
    ],
)
def test_models_of_all_kinds_pass(kind, settings, make_base, text_tokenizer, item_table, item_tokenizer, tmp_path):
    make_base(kind).save_pretrained(tmp_path / "model" / "base")
    text_tokenizer.save_pretrained(tmp_path / "model" / "base")
    model = E4SRecModel.from_base(tmp_path / "model" / "base", item_table, **settings)
    save_trained(model, item_tokenizer, tmp_path / "model")
    if settings.get("tuning") == "full":
        shutil.rmtree(tmp_path / "model" / "base")
    verification = verify(tmp_path / "model")
    assert verification.passed, str(verification)
    assert verification.findings == ()
    change_json(tmp_path / "model" / "config.json", vocab_size=VOCAB + 1)
    assert find(verify(tmp_path / "model"), WEIGHTS, r"misshapen: item_embeddings.weight is \(32, 12\) in the file")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sasrec_passes_and_a_wrong_width_fails(dtype, item_tokenizer, tmp_path):
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=8)).to(dtype)
    save_trained(model, item_tokenizer, tmp_path)
    assert verify(tmp_path) == Verification(str(tmp_path), None, __version__, ())
    change_json(tmp_path / "config.json", hidden_size=16)
    assert find(
        verify(tmp_path), WEIGHTS, r"item_embeddings.weight is \(32, 8\) in the file, the model needs \(32, 16\)"
    )
    change_json(tmp_path / "config.json", hidden_size=8, dtype="float32")
    assert verify(tmp_path).passed  # as half the file: save_pretrained(dtype=torch.bfloat16)
    change_json(tmp_path / "config.json", dtype="float16")
    wider = find(verify(tmp_path), WEIGHTS, "has wider numbers than float16")
    assert bool(wider) == (dtype == torch.float32)


def test_a_base_in_the_config_that_needs_code_is_not_built(fresh, base_dir, item_table, item_tokenizer, tmp_path):
    model = E4SRecModel.from_base(base_dir, item_table, tuning="full")
    save_trained(model, item_tokenizer, tmp_path / "full")
    file = tmp_path / "full" / "config.json"
    base = json.loads(file.read_text())["base_config"]
    for changes, what in [
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "has an auto_map"),
        ({"model_type": "evil"}, "not in transformers"),
        ({"model_type": "e4srec"}, "not in transformers"),
        ({"num_hidden_layers": 10**6}, "has .*num_hidden_layers"),
    ]:
        change_json(file, base_config=base | changes)
        assert find(verify(tmp_path / "full"), "config.json: base_config", what)
    change_json(file, base_config=base, base_model_name_or_path="org/base")
    assert find(verify(tmp_path / "full"), "config.json", "names a base, 'org/base'")


@pytest.fixture
def on_a_hub_base(fresh, monkeypatch):
    """The adapter, its base named by a Hub id; there is no connection to a Hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.rmtree(fresh / "base")
    change_json(fresh / "config.json", base_model_name_or_path="org/base", base_model_revision="0" * 40)
    return fresh


def test_where_the_base_cannot_be_reached_there_is_no_pass_unless_it_is_left_out(on_a_hub_base):
    verification = verify(on_a_hub_base)
    assert verification.exit_status == 2
    assert [finding.kind for finding in verification.findings] == ["unchecked", "note"]
    assert "org/base: the base could not be read" in str(verification)
    without = verify(on_a_hub_base, check_base=False)
    assert without.passed
    assert [(finding.kind, finding.what) for finding in without.findings] == [
        ("note", "the LoRA tensors were checked only by name and rank")
    ]


LORA = "base.layers.0.mlp.up_proj.lora_{}.default.weight"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda w: w.pop(LORA.format("A")), "missing: .*up_proj.lora_A"),
        (
            lambda w: w.update({LORA.format("A"): torch.zeros(5, 32)}),
            r"is \(5, 32\) in the file, the model needs \(4, 'any'\)",
        ),
        (
            lambda w: w.update({"base.embed.weight": torch.zeros(5, 32)}),
            "surplus: base.embed.weight",
        ),
        (
            lambda w: w.update({"base.q_proj.lora_A.default.weight": torch.zeros(4, 2)}),
            "surplus: base.q_proj",
        ),
        (lambda w: w.pop("item_embeddings.weight"), "missing: item_embeddings.weight"),
        (lambda w: w.update({"input_proj.bias": torch.zeros(31)}), r"input_proj.bias is \(31,\) in the file"),
        (lambda w: [w.pop(name) for name in list(w) if ".lora_" in name], "has no LoRA weights"),
    ],
)
def test_without_the_base_tensors_are_checked_by_name_and_rank(change, what, on_a_hub_base):
    change_weights(on_a_hub_base, change)
    assert find(verify(on_a_hub_base, check_base=False), WEIGHTS, what)


def test_an_unpinned_base_is_a_note(on_a_hub_base):
    change_json(on_a_hub_base / "config.json", base_model_revision="main")
    verification = verify(on_a_hub_base, check_base=False)
    assert verification.passed
    assert "the base org/base is not pinned to a commit (base_model_revision is 'main')" in str(verification)


def test_an_adapter_without_a_named_base_passes_only_without_it(on_a_hub_base):
    change_json(on_a_hub_base / "config.json", base_model_name_or_path=None, base_model_revision=None)
    assert verify(on_a_hub_base).exit_status == 2
    assert verify(on_a_hub_base, check_base=False).passed


def test_what_is_not_there_could_not_be_checked(tmp_path):
    for source in (tmp_path / "nowhere", "./nowhere", "org/nowhere", "no hub id"):
        verification = verify(source)
        assert verification.exit_status == 2, str(verification)
        assert f"{source}: could not be checked\nunchecked: {source}: cannot be read" in str(verification)
    assert "a folder has no revision main" in str(verify(tmp_path, revision="main"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_could_not_be_checked(fresh):
    (fresh / "histories.py").chmod(0)
    assert verify(fresh).exit_status == 2


def test_a_verdict_says_what_where_and_why_and_escapes_control_characters():
    verification = Verification(
        "org/model",
        "abc",
        None,
        (failed("a\x1b[2J.py", "is\nbad", "because"), unchecked("b", "x", "y"), note("c", "", "")),
    )
    assert str(verification).splitlines()[:4] == [
        "org/model: FAILED",
        "checked commit abc: load this one, with revision=",
        r"failed: a\x1b[2J.py: is bad",
        "    because",
    ]
    assert Verification("m", None, None, verification.findings[1:]).exit_status == 2
    assert Verification("m", None, None, verification.findings[2:]).exit_status == 0
