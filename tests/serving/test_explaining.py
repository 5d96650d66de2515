"""What a score owes to each item of a history, against asking for each shorter history alone."""

import pytest
import torch

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.serving import Recommender, explain
from tests.conftest import RESPONSE, VOCAB
from tests.serving.clicking import CLICKS, MAX_HISTORY, plain_scores, tokens_of, tokens_read

ITEMS = ["item 9", "item 3", "item 28"]


def by_brute_force(model, tokenizer, history, item):
    """The score of an item, and what it loses without each item of the history: a plain pass for each."""

    def score(items):
        return float(plain_scores(model, tokens_of(tokenizer, items))[tokenizer.convert_tokens_to_ids(item)])

    whole = score(history)
    return whole, [whole - score(history[:place] + history[place + 1 :]) for place in range(len(history))]


@pytest.mark.parametrize("response", [RESPONSE, ""])
@pytest.mark.parametrize("head", ["linear", "tied"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3", "qwen3"])
def test_each_item_is_owed_what_the_score_loses_without_it(kind, head, response, make_model, item_tokenizer):
    model = make_model(kind, head=head, response=response, max_history=MAX_HISTORY)
    recommender = Recommender(model, item_tokenizer)
    for length in (0, 1, MAX_HISTORY, MAX_HISTORY + 2, len(CLICKS)):  # with items that come again and an unknown one
        history = CLICKS[:length]
        for found, item in zip(explain(recommender, history, ITEMS, on_unknown="unk"), ITEMS, strict=True):
            score, owed = by_brute_force(model, item_tokenizer, history, item)
            scale = float(plain_scores(model, tokens_of(item_tokenizer, history)).detach().abs().max())
            assert found.item == item
            assert found.score == pytest.approx(score, abs=1e-5 * scale)
            assert found.owed == pytest.approx(owed, abs=2e-5 * scale)


def test_what_is_not_read_is_owed_nothing(make_model, item_tokenizer):
    recommender = Recommender(make_model(max_history=3), item_tokenizer)
    history = ["item 1", "item 2", "item 3", "no such item", "item 4", "item 5"]
    (found,) = explain(recommender, history, ["item 9"], on_unknown="unk")
    assert [part == 0 for part in found.owed] == [True, True, False, True, False, False]


def test_all_is_read_in_one_batch_behind_one_instruction(make_model, item_tokenizer):
    model = make_model(max_history=MAX_HISTORY)
    recommender = Recommender(model, item_tokenizer)
    explain(recommender, CLICKS[:4], ITEMS)  # the instruction is read, the base is checked
    read = tokens_read(model)
    explain(recommender, ["item 1", "item 2", "item 3"], ITEMS)
    assert read == [4 * (3 + len(model.response_ids))]


def test_a_sasrec_explains_what_has_two_known_items(item_tokenizer):
    torch.manual_seed(0)
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=16)).eval()
    recommender = Recommender(model, item_tokenizer)
    (found,) = explain(recommender, ["item 1", "item 2"], ["item 9"])
    whole, first, second = (float(model(torch.tensor([ids])).logits[0, 11].detach()) for ids in ([3, 4], [3], [4]))
    assert found.score == pytest.approx(whole, abs=1e-6)
    assert found.owed == pytest.approx([whole - second, whole - first], abs=1e-6)
    with pytest.raises(ValueError, match="Without a prompt, the history needs two known items"):
        explain(recommender, ["item 1"], ["item 9"])


def test_what_cannot_be_explained_is_refused(recommender):
    with pytest.raises(ValueError, match=r"1 item id\(s\) are not in the catalogue: 'no such item'"):
        explain(recommender, ["item 1", "no such item"], ITEMS)
    with pytest.raises(ValueError, match="'no such item'"):
        explain(recommender, ["item 1"], ["no such item"], on_unknown="unk")
    with pytest.raises(TypeError, match="Items must be a list of raw item ids"):
        explain(recommender, ["item 1"], "item 2")
    with pytest.raises(TypeError, match="Items must be a list of raw item ids"):
        explain(recommender, "item 1", ["item 2"])
    with pytest.raises(ValueError, match="on_unknown must be"):
        explain(recommender, ["item 1"], ITEMS, on_unknown="drop")
    assert explain(recommender, ["item 1"], []) == []
    with torch.no_grad():
        recommender.model.input_proj.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        explain(recommender, ["item 1"], ITEMS)
