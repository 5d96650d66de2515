"""Bases as people have them: what their tokenizers add, how they embed, and how their weights are stored."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GemmaConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from e4srec_hf import E4SRecModel
from tests.conftest import BASE_CONFIGS, INSTRUCTION, RESPONSE, random_batch, stir_lora

PROMPT = {"instruction": INSTRUCTION, "response": RESPONSE, "lora": {"r": 4}}
SCALED = {"gemma": GemmaConfig, "gemma2": Gemma2Config}


def test_a_tokenizer_that_adds_a_beginning_adds_none_to_the_prompt(base_dir, item_table, tmp_path):
    """As that of an instruction-tuned base with a chat template: the prompt is read as it was written."""
    shutil.copytree(base_dir, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    plain = [tokenizer(text)["input_ids"] for text in (INSTRUCTION, RESPONSE)]
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{eos} $A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    tokenizer.bos_token = eos
    tokenizer.chat_template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "base")
    assert AutoTokenizer.from_pretrained(tmp_path / "base")(RESPONSE)["input_ids"][0] == tokenizer.bos_token_id
    fresh = E4SRecModel.from_base(tmp_path / "base", item_table, **PROMPT).eval()
    assert [fresh.config.instruction_ids, fresh.config.response_ids] == plain
    fresh.save_pretrained(tmp_path / "m")
    loaded = AutoModel.from_pretrained(tmp_path / "m", base_model=base_dir)  # its words are tokenized once more
    again = AutoModel.from_pretrained(tmp_path / "m", base_model=tmp_path / "base")
    for model in (loaded, again):
        assert [model.config.instruction_ids, model.config.response_ids] == plain
        assert torch.equal(model(*random_batch()).logits, fresh(*random_batch()).logits)


@pytest.mark.parametrize("kind", [*BASE_CONFIGS, *SCALED])
def test_the_prompt_enters_as_its_tokens_would(kind, make_base, make_model, text_tokenizer):
    if kind in SCALED:
        shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = SCALED[kind](
            vocab_size=len(text_tokenizer), num_key_value_heads=2, head_dim=8, pad_token_id=0, **shape
        )
        base = AutoModel.from_config(config).eval()
    else:
        base = make_base(kind)
    model = make_model(base)
    ids, vectors = model.instruction_ids[None], model.reading_task().prompt[0][None]
    by_ids, by_vectors = base(input_ids=ids), base(inputs_embeds=vectors)
    assert torch.equal(by_vectors.last_hidden_state, by_ids.last_hidden_state)
    if "gemma" in kind:  # it scales them by the root of its width
        torch.testing.assert_close(vectors, base.embed_tokens.weight[ids] * 32**0.5)


@pytest.mark.parametrize("tied", [True, False])
def test_heads_are_left_behind_tied_or_not(tied, text_tokenizer, item_table, tmp_path):
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    whole = LlamaForCausalLM(LlamaConfig(vocab_size=len(text_tokenizer), tie_word_embeddings=tied, **shape)).eval()
    whole.save_pretrained(tmp_path)
    text_tokenizer.save_pretrained(tmp_path)
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) is not tied
    from_folder, from_memory = (
        stir_lora(E4SRecModel.from_base(base, item_table, tokenizer=text_tokenizer, **PROMPT)).eval()
        for base in (tmp_path, AutoModelForCausalLM.from_pretrained(tmp_path))
    )
    from_memory.load_state_dict(from_folder.state_dict())
    assert not [name for name in from_folder.state_dict() if "lm_head" in name]
    assert torch.equal(from_folder.base.embed_tokens.weight, whole.model.embed_tokens.weight)
    assert torch.equal(from_folder(*random_batch()).logits, from_memory(*random_batch()).logits)


def test_weights_in_several_files_are_one_base(base_dir, item_table, tmp_path):
    shards = tmp_path / "shards"
    AutoModelForCausalLM.from_pretrained(base_dir).save_pretrained(shards, max_shard_size="20KB")
    AutoTokenizer.from_pretrained(base_dir).save_pretrained(shards)
    index = json.loads((shards / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 2
    model = stir_lora(E4SRecModel.from_base(shards, item_table, **PROMPT)).eval()
    model.save_pretrained(tmp_path / "m")
    for base in (None, base_dir):
        loaded = AutoModel.from_pretrained(tmp_path / "m", base_model=base)
        assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)
    (shards / sorted(set(index.values()))[1]).unlink()
    with pytest.raises(OSError, match="shards' could not be loaded"):
        AutoModel.from_pretrained(tmp_path / "m")
