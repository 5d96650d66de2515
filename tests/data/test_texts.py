"""Vectors of texts, against a plain forward pass for each text."""

from functools import partial

import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5Model

from e4srec_hf.data import text_vectors
from tests.conftest import BASE_CONFIGS

TEXTS = ["The reader", "Next: the reader had", "The reader", "Книга", "a", "b", "The reader had: " * 60]


def plain(base, tokenizer, text, layer, pooling, most=128):
    read = tokenizer(text, truncation=True, max_length=most, return_special_tokens_mask=True)
    with torch.no_grad():
        states = base(torch.tensor([read["input_ids"]]), output_hidden_states=True).hidden_states[layer][0].float()
    own = [place for place, added in enumerate(read["special_tokens_mask"]) if not added]
    return states[own].mean(0) if pooling == "mean" else states[own[-1]]


@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_every_family_gives_what_one_text_at_a_time_gives(kind, make_base, text_tokenizer):
    base = make_base(kind)
    for layer, pooling in ((1, "last"), (0, "mean"), (-1, "mean")):
        found = text_vectors(TEXTS, base, tokenizer=text_tokenizer, layer=layer, pooling=pooling)
        expected = torch.stack([plain(base, text_tokenizer, text, layer, pooling) for text in TEXTS])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)  # a processor may round each row differently
    close(found[0], found[2])
    both = text_vectors(TEXTS, base, tokenizer=text_tokenizer, layer=-1, pooling="both")
    assert both.shape == (len(TEXTS), 64)
    close(both[:, 32:], found)


@pytest.mark.parametrize(("layers", "chosen"), [(1, 1), (2, 1), (6, 2), (7, 2)])
def test_by_default_both_are_taken_after_a_third_of_the_layers(layers, chosen, make_base, text_tokenizer):
    base = make_base(num_hidden_layers=layers)
    expected = text_vectors(TEXTS, base, tokenizer=text_tokenizer, layer=chosen, pooling="both")
    assert torch.equal(text_vectors(TEXTS, base, tokenizer=text_tokenizer), expected)


def test_tokens_that_the_tokenizer_adds_are_read_and_not_counted(make_base, text_tokenizer):
    class Adding:
        def __call__(self, texts, **kwargs):
            read = text_tokenizer(texts, **kwargs)
            return {
                "input_ids": [[0, *ids, 0] for ids in read["input_ids"]],
                "special_tokens_mask": [[1, *mask, 1] for mask in read["special_tokens_mask"]],
            }

    base, (ids,) = make_base(), text_tokenizer(["The reader"])["input_ids"]
    with torch.no_grad():
        states = base(torch.tensor([[0, *ids, 0]]), output_hidden_states=True).hidden_states[1][0, 1:-1]
    for pooling, expected in (("last", states[-1]), ("mean", states.mean(0))):
        found = text_vectors(["The reader"], base, tokenizer=Adding(), layer=1, pooling=pooling)
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


def test_a_base_under_an_adapter_is_read_as_it_was_and_not_copied(base_dir, make_model):
    model = make_model(base_dir)
    before = {name: value.data_ptr() for name, value in model.base.named_parameters()}
    assert torch.equal(text_vectors(TEXTS, model), text_vectors(TEXTS, base_dir))
    assert before == {name: value.data_ptr() for name, value in model.base.named_parameters()}
    assert model.training is False
    model.train()
    text_vectors(TEXTS, model)
    assert model.base.training


def test_an_encoder_is_read_too(text_tokenizer):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    base = BertModel(BertConfig(vocab_size=len(text_tokenizer), **shape)).eval()
    found = text_vectors(TEXTS[:6], base, tokenizer=text_tokenizer, layer=-1, pooling="mean")
    expected = torch.stack([plain(base, text_tokenizer, text, -1, "mean") for text in TEXTS[:6]])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_blocks_do_not_change_the_vectors(make_base, text_tokenizer, monkeypatch):
    base = make_base()
    whole = text_vectors(TEXTS, base, tokenizer=text_tokenizer)
    monkeypatch.setattr("e4srec_hf.data.texts.TEXTS_AT_A_TIME", 2)
    monkeypatch.setattr("e4srec_hf.data.texts.TOKENS_A_PASS", 3)
    torch.testing.assert_close(text_vectors(TEXTS, base, tokenizer=text_tokenizer), whole, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_read_is_named(make_base, make_model, text_tokenizer, base_dir, tmp_path):
    base = make_base()
    for texts, message in (
        (["a", " "], "1 text.s. are blank or no text, the first is text 1"),
        ([None], "no text"),
        (["a\ud800"], "half"),
    ):
        with pytest.raises(ValueError, match=message):
            text_vectors(texts, base, tokenizer=text_tokenizer)
    with pytest.raises(ValueError, match="pass its text tokenizer"):
        text_vectors(["a"], base)
    with pytest.raises(ValueError, match='pooling must be "last", "mean" or "both"'):
        text_vectors(["a"], base, tokenizer=text_tokenizer, pooling="max")
    with pytest.raises(ValueError, match="trained with it"):
        text_vectors(["a"], make_model(base_dir, tuning="full"))
    model = make_model(base_dir)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"is an adapter .*not a base: give a language model"):
        text_vectors(["a"], tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"has token .*, which the base has not: it is for another base"):
        text_vectors(["Next: the reader"], make_base(), tokenizer=_shifted(text_tokenizer))
    t5 = T5Model(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0))
    with pytest.raises(ValueError, match="T5Model does not read texts alone"):
        text_vectors(["a"], t5, tokenizer=text_tokenizer)


def _shifted(tokenizer):
    def read(texts, **kwargs):
        found = tokenizer(texts, **kwargs)
        return {**found, "input_ids": [[token + 1000 for token in ids] for ids in found["input_ids"]]}

    return read


def test_no_texts_give_no_vectors(base_dir):
    assert text_vectors([], base_dir).shape == (0, 64)


def test_a_base_in_bfloat16_gives_float32(make_base, text_tokenizer):
    vectors = text_vectors(TEXTS, make_base().bfloat16(), tokenizer=text_tokenizer)
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad
