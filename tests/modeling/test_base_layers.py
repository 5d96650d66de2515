"""Only the first layers of a base are read: like a base that has no others, beside adapters that read them all."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModel, GPTNeoConfig, SmolLM3Config

from e4srec_hf import E4SRecModel
from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.convert import export_peft
from e4srec_hf.hub.verify import verify
from e4srec_hf.training import prepare_for_training, save_trained
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.conftest import BASE_CONFIGS, INSTRUCTION, RESPONSE, random_batch, stir_lora

DEPTH = 4
DEPTHS = {kind: "n_layer" if kind == "gpt2" else "num_hidden_layers" for kind in BASE_CONFIGS}


@pytest.fixture(scope="module")
def deep_dir(tmp_path_factory):
    """A base of four layers on disk, with its tokenizer."""
    return make_tiny_base(
        tmp_path_factory.mktemp("deep") / "base",
        hidden_size=32,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        texts=(INSTRUCTION, RESPONSE),
    )


def built_with(base, layers, depth):
    """A base that was never deeper: its config says so from the start, and it has the weights of ``base``."""
    config = base.config.to_dict()
    kept = {name: value[:layers] for name, value in config.items() if name in ("layer_types", "no_rope_layers")}
    if "attention_types" in config:  # of GPT-Neo: kinds, and how often they come
        config.pop("attention_layers")
        kept = {"attention_types": [[["global", "local"], layers // 2]]}
    shallow = AutoModel.from_config(AutoConfig.for_model(**config | kept | {depth: layers})).eval()
    missing, _ = shallow.load_state_dict(base.state_dict(), strict=False)
    assert not missing
    return shallow


@pytest.mark.parametrize("kind", BASE_CONFIGS)
def test_it_scores_like_a_base_that_has_no_other_layers(kind, make_base, make_model):
    base = make_base(kind, **{DEPTHS[kind]: DEPTH})
    cut, whole = make_model(base, base_layers=2), make_model(base)
    expected = make_model(built_with(base, 2, DEPTHS[kind]))(*random_batch()).logits
    assert torch.equal(cut(*random_batch()).logits, expected)
    assert not torch.allclose(whole(*random_batch()).logits, expected, atol=1e-3)
    assert (base.config.num_hidden_layers, cut.base.config.num_hidden_layers) == (DEPTH, 2)
    ids, mask = random_batch()
    labels = ids.masked_fill(mask == 0, -100)
    plain = cut.eval()(ids, mask, labels=labels)
    packed = prepare_for_training(make_model(base, base_layers=2)).eval()(ids, mask, labels=labels)
    torch.testing.assert_close(packed.loss, plain.loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        (GPTNeoConfig(attention_types=[[["global", "local"], 2]], num_layers=4, num_heads=4), "num_layers"),
        (SmolLM3Config(num_hidden_layers=4, no_rope_layer_interval=2, pad_token_id=0), "num_hidden_layers"),
    ],
    ids=["gpt_neo", "smollm3"],
)
def test_lists_with_an_entry_for_each_layer_are_cut_too(config, depth, make_base, make_model, text_tokenizer):
    config.vocab_size, config.hidden_size = len(text_tokenizer), 32
    if config.model_type == "smollm3":
        config.intermediate_size, config.num_attention_heads, config.num_key_value_heads = 48, 4, 2
    base = AutoModel.from_config(config).eval()
    assert torch.equal(
        make_model(base, base_layers=2)(*random_batch()).logits,
        make_model(built_with(base, 2, depth))(*random_batch()).logits,
    )


def test_what_is_saved_is_what_is_loaded_and_verified(deep_dir, item_table, item_tokenizer, tmp_path):
    prompt = {"instruction": INSTRUCTION, "response": RESPONSE, "lora": {"r": 4}}
    shutil.copytree(deep_dir, tmp_path / "m/base")
    model = stir_lora(E4SRecModel.from_base(tmp_path / "m/base", item_table, base_layers=3, **prompt)).eval()
    save_trained(model, item_tokenizer, tmp_path / "m")
    assert json.loads((tmp_path / "m/config.json").read_text())["base_layers"] == 3
    for base in (None, deep_dir, AutoModel.from_pretrained(deep_dir), model):
        loaded = AutoModel.from_pretrained(tmp_path / "m", base_model=base)
        assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)
    assert verify(tmp_path / "m").passed
    refresh_model_card(tmp_path / "m")
    assert "first 3 layers of the base are read" in (tmp_path / "m/README.md").read_text()


def test_adapters_of_different_depths_share_one_base(deep_dir, item_table):
    base = AutoModel.from_pretrained(deep_dir)
    names = set(base.state_dict())
    prompt = {"instruction": INSTRUCTION, "response": RESPONSE}
    alone, shared = {}, {}
    for layers in (None, 3, 1):
        alone[layers] = stir_lora(E4SRecModel.from_base(deep_dir, item_table, base_layers=layers, **prompt)).eval()
        torch.manual_seed(1)
        shared[layers] = stir_lora(E4SRecModel.from_base(base, item_table, base_layers=layers, **prompt)).eval()
        shared[layers].load_state_dict(alone[layers].state_dict())
    for layers, model in shared.items():
        assert torch.equal(model(*random_batch()).logits, alone[layers](*random_batch()).logits)
        assert model.base.layers[0].self_attn.q_proj.weight is base.layers[0].self_attn.q_proj.weight
        assert len(model.base.layers) == (layers or DEPTH)
    assert len(base.layers) == base.config.num_hidden_layers == DEPTH
    assert set(base.state_dict()) == names


def test_the_base_of_a_model_that_reads_a_few_layers_has_no_others(deep_dir, item_table, tmp_path):
    prompt = {"instruction": INSTRUCTION, "response": RESPONSE}
    two = E4SRecModel.from_base(deep_dir, item_table, base_layers=2, **prompt)
    assert E4SRecModel.from_base(two, item_table, **prompt).config.base_layers == 2
    assert E4SRecModel.from_base(two, item_table, base_layers=1, **prompt).config.base_layers == 1
    with pytest.raises(ValueError, match="base_layers is 3, but 2 layers are found in LlamaModel"):
        E4SRecModel.from_base(two, item_table, base_layers=3, **prompt)
    E4SRecModel.from_base(
        deep_dir, item_table, lora={"target_modules": ["layers.0.mlp.up_proj"]}, **prompt
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has only its first 2 layers left, but all are to be read"):
        AutoModel.from_pretrained(tmp_path, base_model=two)


def test_a_base_that_is_trained_whole_is_the_cut_one(deep_dir, item_table, tmp_path):
    prompt = {"instruction": INSTRUCTION, "response": RESPONSE}
    model = E4SRecModel.from_base(deep_dir, item_table, base_layers=2, tuning="full", **prompt).eval()
    assert model.config.base_config["num_hidden_layers"] == 2
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(*random_batch()).logits, model(*random_batch()).logits)
    assert max(int(name.split(".")[2]) for name in model.saved_keys() if name.startswith("base.layers.")) == 1


@pytest.mark.parametrize("layers", [0, -1, 2.5, True, "2"])
def test_a_number_of_layers_is_a_whole_number_of_at_least_one(layers, deep_dir, item_table):
    with pytest.raises(ValueError, match="base_layers must be a whole number of at least 1"):
        E4SRecModel.from_base(deep_dir, item_table, base_layers=layers)


def test_more_layers_than_the_base_has_are_refused(deep_dir, item_table):
    with pytest.raises(ValueError, match="base_layers is 5, but 4 layers are found in LlamaModel"):
        E4SRecModel.from_base(deep_dir, item_table, base_layers=5)


@torch.no_grad()
def test_peft_puts_the_lora_into_the_same_layers(deep_dir, item_table, tmp_path):
    model = E4SRecModel.from_base(deep_dir, item_table, base_layers=2, instruction=INSTRUCTION, response=RESPONSE)
    export_peft(stir_lora(model).eval(), tmp_path)
    exported = PeftModel.from_pretrained(AutoModel.from_pretrained(deep_dir), tmp_path).eval()
    assert {name for name, _ in exported.base_model.model.named_parameters() if ".lora_" in name} == {
        name for name, _ in model.base.named_parameters() if ".lora_" in name
    }
    text = torch.tensor([[5, 6, 7, 8, 9, 3]])
    after_two = exported(text, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(model.base.norm(after_two), model.base(text).last_hidden_state)
