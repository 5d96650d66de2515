"""The base that is made on the spot."""

import torch
from transformers import AutoModel, AutoTokenizer

from e4srec_hf.modeling.configuration_e4srec import PAPER_INSTRUCTION
from e4srec_hf.training.tiny_base import make_tiny_base


def test_it_is_the_same_for_the_same_seed_and_leaves_the_random_state_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = AutoModel.from_pretrained(make_tiny_base(tmp_path / "first", hidden_size=32))
    assert torch.equal(torch.rand(1), expected)
    second = AutoModel.from_pretrained(make_tiny_base(tmp_path / "second", hidden_size=32))
    other = AutoModel.from_pretrained(make_tiny_base(tmp_path / "other", hidden_size=32, seed=1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert not torch.equal(first.embed_tokens.weight, other.embed_tokens.weight)
    assert (tmp_path / "first" / "tokenizer.json").read_bytes() == (tmp_path / "second" / "tokenizer.json").read_bytes()


def test_its_tokenizer_reads_any_text_and_the_prompt_in_few_tokens(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_base(tmp_path / "base", hidden_size=32))
    for text in (PAPER_INSTRUCTION, "anything at all: 物品 😀 \n\t"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert len(tokenizer.encode(PAPER_INSTRUCTION)) < 60
