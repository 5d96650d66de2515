"""A history that is read on after each click, against reading it whole in one plain pass of the base."""

import logging

import pytest
import torch
from transformers import BertConfig, BertModel, MambaConfig, MambaModel, Qwen3NextConfig, Qwen3NextModel

from e4srec_hf.serving import Recommender, Session, continued_reading, merge_adapter
from tests.conftest import BASE_CONFIGS, N_ITEMS, RESPONSE
from tests.serving.clicking import CLICKS, MAX_HISTORY, plain_scores, tokens_of, tokens_read


def assert_goes_on_exactly(model, tokenizer, clicks=CLICKS):
    """After each click the scores are those of the whole history."""
    session = Session(Recommender(model, tokenizer), on_unknown="unk")
    for place in range(len(clicks) + 1):
        if place:
            session.append(clicks[place - 1])
        known = tokens_of(tokenizer, clicks[:place])
        if not (known or model.scores_first_item):
            continue
        expected = plain_scores(model, known)
        scores = model.scoring_vectors.detach() @ session.vector()
        assert float((scores - expected).abs().max()) <= 1e-5 * float(expected.abs().max()), place
    return session


@pytest.mark.parametrize("response", [RESPONSE, ""])
@pytest.mark.parametrize("head", ["linear", "tied"])
@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_each_click_gives_the_scores_of_the_whole_history(kind, head, response, make_model, item_tokenizer):
    model = make_model(kind, head=head, response=response, max_history=MAX_HISTORY)
    assert_goes_on_exactly(model, item_tokenizer)


@pytest.mark.parametrize("settings", [{"instruction": ""}, {"instruction": "", "response": ""}], ids=str)
@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_the_same_without_an_instruction_and_without_any_prompt(kind, settings, make_model, item_tokenizer):
    assert_goes_on_exactly(make_model(kind, max_history=MAX_HISTORY, **settings), item_tokenizer)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("window", [3, 5, 500])
@pytest.mark.parametrize("kind", ["mistral", "gemma3"])
def test_sliding_windows_shorter_and_longer_than_the_history(
    kind, window, attention, make_base, make_model, item_tokenizer, caplog, propagating
):
    base = make_base(kind, sliding_window=window, attn_implementation=attention)
    with caplog.at_level(logging.WARNING, logger="transformers"):
        session = assert_goes_on_exactly(make_model(base, max_history=50), item_tokenizer)
    assert session.nbytes > 0
    assert "reads its whole history again" not in caplog.text


@pytest.mark.parametrize("response", [RESPONSE, ""])
def test_a_click_costs_one_token_and_the_response_and_a_full_window_is_read_again(response, make_model, item_tokenizer):
    model = make_model(response=response, max_history=MAX_HISTORY)
    Session(Recommender(model, item_tokenizer), CLICKS[:2]).recommend()  # the base is checked
    read, n_response = tokens_read(model), len(model.response_ids)
    session, known = Session(Recommender(model, item_tokenizer), on_unknown="unk"), 0
    for click in CLICKS:
        session.append(click)
        read.clear()
        session.recommend()
        if click not in item_tokenizer.vocab:
            assert read == []  # nothing has changed
            continue
        known += 1
        if known == 1:  # the instruction is read once
            assert read.pop(0) == len(model.instruction_ids)
        assert read == [(1 if known <= MAX_HISTORY else MAX_HISTORY) + n_response]
        for options in ({"top_k": 3}, {"exclude_seen": False}, {"candidates": CLICKS[:2]}):
            session.recommend(**options)
        session.vector()
        assert len(read) == 1  # whatever else is asked for


@pytest.mark.parametrize("size", [2, 3, 5, 9])
def test_clicks_that_come_several_at_a_time_also_across_the_end_of_the_window(size, make_model, item_tokenizer):
    model = make_model(max_history=MAX_HISTORY)
    session, clicked = Session(Recommender(model, item_tokenizer)), []
    for number in range(0, 2 * N_ITEMS, size):
        clicked += (some := [f"item {(5 * place) % N_ITEMS}" for place in range(number, number + size)])
        session.extend(some)
        expected = plain_scores(model, tokens_of(item_tokenizer, clicked))
        torch.testing.assert_close(model.scoring_vectors @ session.vector(), expected, rtol=1e-5, atol=1e-5)


def test_several_new_items_are_read_together(make_model, item_tokenizer):
    model = make_model(max_history=MAX_HISTORY)
    session = Session(Recommender(model, item_tokenizer), ["item 1"])
    session.recommend()
    read = tokens_read(model)
    session.append("item 2")
    session.extend(["item 3", "item 4"])
    session.recommend()
    assert read == [3 + len(model.response_ids)]


def other_base(kind, vocab_size):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "mamba":
        config = MambaConfig(vocab_size=vocab_size, hidden_size=32, num_hidden_layers=2, state_size=4)
        return MambaModel(config).eval()
    if kind == "qwen3_next":  # one layer of linear attention, one of full attention
        linear = {f"linear_{part}": 8 for part in ("key_head_dim", "value_head_dim")}
        linear |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        layers = {"layer_types": ["linear_attention", "full_attention"], "num_experts": 0, "mlp_only_layers": [0, 1]}
        heads = {"num_key_value_heads": 2, "head_dim": 8}
        return Qwen3NextModel(Qwen3NextConfig(vocab_size=vocab_size, **shape, **heads, **linear, **layers)).eval()
    return BertModel(BertConfig(vocab_size=vocab_size, **shape), add_pooling_layer=False).eval()


OTHER_BASES = {
    "mamba": {"target_modules": ["in_proj", "x_proj"]},
    "qwen3_next": {"target_modules": ["in_proj_qkvz", "q_proj"]},
    "bert": {},
}


@pytest.mark.parametrize("settings", [{}, {"response": ""}, {"instruction": ""}], ids=str)
@pytest.mark.parametrize("kind", list(OTHER_BASES))
def test_a_base_that_cannot_read_on_reads_anew_and_says_so_once(
    kind, settings, make_model, text_tokenizer, item_tokenizer, caplog, propagating
):
    base = other_base(kind, len(text_tokenizer))
    model = make_model(base, lora={"r": 4} | OTHER_BASES[kind], max_history=MAX_HISTORY, **settings)
    with caplog.at_level(logging.WARNING, logger="transformers"):
        for _ in range(2):
            session = assert_goes_on_exactly(model, item_tokenizer)
    assert session.nbytes == 0
    said = [record.message for record in caplog.records if "reads its whole history again" in record.message]
    assert len(said) == 1
    assert type(base).__name__ in said[0]


def test_a_base_is_checked_again_where_histories_get_longer(make_model, item_tokenizer, monkeypatch):
    lengths, check = [], continued_reading.check_continued
    monkeypatch.setattr(
        continued_reading, "check_continued", lambda *arguments: lengths.append(arguments[3]) or check(*arguments)
    )
    model = make_model(max_history=200)
    session = Session(Recommender(model, item_tokenizer))
    for _ in range(8):
        session.extend([f"item {number}" for number in range(N_ITEMS)])
        session.recommend()
    assert lengths == [64, 180, 200]


def test_half_precision_and_a_merged_adapter(make_base, make_model, item_tokenizer):
    model = make_model(max_history=MAX_HISTORY)
    merge_adapter(model)
    assert_goes_on_exactly(model, item_tokenizer)
    model = make_model(make_base().to(torch.bfloat16), max_history=MAX_HISTORY)
    session = Session(Recommender(model, item_tokenizer))
    for click in tokens_of(item_tokenizer, CLICKS):
        session.append(item_tokenizer.convert_ids_to_tokens(click))
        session.recommend()
    assert session.vector().dtype == torch.float32
    expected = plain_scores(model, tokens_of(item_tokenizer, CLICKS))
    assert float((model.scoring_vectors.detach() @ session.vector() - expected).norm() / expected.norm()) < 5e-2


def test_no_gradients_are_kept(make_model, item_tokenizer):
    session = Session(Recommender(make_model().train(), item_tokenizer), CLICKS[:3])
    assert not session.vector().requires_grad
    assert not any(part.requires_grad for pair in session._read.keys_and_values for part in pair)


def test_memory_is_that_of_the_items_that_are_read_and_no_more_than_a_window(make_model, item_tokenizer):
    model = make_model(max_history=MAX_HISTORY)
    session = Session(Recommender(model, item_tokenizer))
    of_an_item = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head dimension, bytes
    sizes = []
    for number in range(40):
        session.append(f"item {number % N_ITEMS}")
        session.recommend()
        sizes.append(session.nbytes / of_an_item)
    assert sizes == [1, 2, 3, 4, 5, 6] + 34 * [0]  # a full window moves: none of its states is of use again
    assert session.history == [f"item {number % N_ITEMS}" for number in range(33, 40)]


def test_what_is_kept_holds_no_larger_tensor_in_memory(make_model, item_tokenizer):
    session = Session(Recommender(make_model(), item_tokenizer), CLICKS[:2])
    session.recommend()
    pairs = session._read.keys_and_values
    assert sum(part.untyped_storage().nbytes() for pair in pairs for part in pair) == session.nbytes
