"""The LoRA of an adapter, exported, is the one that PEFT computes with."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from e4srec_hf import E4SRecModel
from e4srec_hf.convert import export_peft
from e4srec_hf.serving import merge_adapter
from tests.conftest import INSTRUCTION, RESPONSE, stir_lora

TEXT = torch.tensor([[5, 6, 7, 8, 9, 3]])


@pytest.fixture
def trained(base_dir, item_table):
    """A model on a base from disk, its LoRA moved away from the identity."""

    def make(dtype=torch.float32, **config):
        model = E4SRecModel.from_base(
            base_dir, item_table, instruction=INSTRUCTION, response=RESPONSE, dtype=dtype, **config
        )
        return stir_lora(model).eval()

    return make


@torch.no_grad()
def states(base):
    return base(TEXT).last_hidden_state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "lora",
    [
        {"r": 4},
        {"r": 4, "lora_alpha": 3, "use_rslora": True},
        {"r": 4, "use_dora": True},
        {"r": 4, "target_modules": "all-linear", "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 3}},
        {"r": 4, "target_modules": ["layers.1.self_attn.q_proj", "layers.1.self_attn.v_proj"], "lora_bias": True},
    ],
    ids=["paper", "rslora", "dora", "all-linear", "one layer"],
)
def test_peft_computes_the_same_hidden_states(trained, base_dir, tmp_path, lora, dtype):
    model = trained(dtype, lora=lora)
    export_peft(model, tmp_path / "peft")
    base = AutoModel.from_pretrained(base_dir, dtype=dtype)
    bare = states(base)
    exported = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    assert torch.equal(states(exported), states(model.base))
    assert not torch.allclose(states(exported), bare, atol=1e-2)


def test_a_merged_adapter_exports_the_same_files(trained, tmp_path):
    model = trained()
    export_peft(model, tmp_path / "before")
    merge_adapter(model)
    merged = states(model.base)
    export_peft(model, tmp_path / "merged")
    assert torch.equal(states(model.base), merged)
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("before", "merged"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_reloaded_adapter_exports_the_same_files(trained, tmp_path):
    model = trained()
    model.save_pretrained(tmp_path / "ours")
    export_peft(model, tmp_path / "before")
    export_peft(AutoModel.from_pretrained(tmp_path / "ours"), tmp_path / "after")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


def test_the_folder_is_peft_s_alone_and_names_the_base(trained, base_dir, tmp_path):
    export_peft(trained(base_model_revision="main"), tmp_path / "peft")
    assert {file.name for file in (tmp_path / "peft").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    fields = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == str(base_dir)
    assert (fields["peft_type"], fields["task_type"]) == ("LORA", "FEATURE_EXTRACTION")
    assert (fields["revision"], fields["inference_mode"]) == ("main", True)
    assert sorted(fields["target_modules"]) == ["down_proj", "gate_proj", "up_proj"]
    names = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert "base_model.model.layers.0.mlp.gate_proj.lora_A.weight" in names
    assert all(".lora_" in name for name in names)


def test_the_model_still_trains(trained, tmp_path):
    """The settings that are written are a copy: an exported adapter is for inference, the model is not."""
    model = trained()
    export_peft(model, tmp_path / "peft")
    assert not model.base.peft_config["default"].inference_mode
    assert any(parameter.requires_grad for name, parameter in model.named_parameters() if ".lora_" in name)


def test_an_adapter_folder_of_ours_is_left_alone(trained, tmp_path):
    model = trained()
    model.save_pretrained(tmp_path / "ours")
    before = {file.name for file in (tmp_path / "ours").iterdir()}
    with pytest.raises(FileExistsError, match=r"ours holds a config\.json.*folder of its own"):
        export_peft(model, tmp_path / "ours")
    assert {file.name for file in (tmp_path / "ours").iterdir()} == before


def test_a_base_that_was_trained_whole_has_no_lora(trained, tmp_path):
    with pytest.raises(ValueError, match="no LoRA to export"):
        export_peft(trained(tuning="full"), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()
