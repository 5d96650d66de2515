"""What a live session recommends and refuses."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.serving import Recommender, Session
from tests.conftest import N_ITEMS, VOCAB
from tests.serving.clicking import CLICKS, MAX_HISTORY, asked_anew, plain_scores, tokens_of


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 5},
        {"top_k": N_ITEMS},
        {"top_k": 8, "exclude_seen": False},
        {"top_k": 3, "candidates": ["item 3", "item 9", "item 2", "item 14"]},
    ],
    ids=str,
)
def test_recommendations_are_those_of_the_model(options, make_model, item_tokenizer):
    model = make_model(max_history=MAX_HISTORY)
    model.config.retired_items = [4, 9]
    session = Session(Recommender(model, item_tokenizer, {"item 1": "One"}), on_unknown="unk")
    for place in range(len(CLICKS) + 1):
        items, scores = asked_anew(model, item_tokenizer, CLICKS[:place], **options)
        recommended = session.recommend(**options)
        assert [found.item for found in recommended] == items
        torch.testing.assert_close(torch.tensor([found.score for found in recommended]), scores, rtol=1e-5, atol=1e-5)
        assert all(found.title == ("One" if found.item == "item 1" else "") for found in recommended)
        session.extend(CLICKS[place : place + 1])
    everything = [found.item for found in session.recommend(top_k=N_ITEMS)]
    assert not set(everything) & {*CLICKS, *item_tokenizer.convert_ids_to_tokens([4, 9])}  # also what left the window


@pytest.mark.parametrize("items", ["item 3", [3], [None], [["item 3"]], [b"item 3"]])
def test_what_is_no_list_of_raw_ids_is_refused_and_changes_nothing(items, make_model, item_tokenizer):
    session = Session(Recommender(make_model(), item_tokenizer), ["item 1"])
    with pytest.raises(TypeError, match="Items must be a list of raw item ids"):
        session.extend(items)
    with pytest.raises(TypeError, match="Items must be a list of raw item ids"):
        session.recommend(candidates=items)
    with pytest.raises(TypeError, match="Items must be a list of raw item ids"):
        Session(Recommender(make_model(), item_tokenizer), items)
    assert session.history == ["item 1"]


def test_unknown_items_are_refused_by_name_or_ignored(make_model, item_tokenizer):
    model = make_model()
    session = Session(Recommender(model, item_tokenizer), ["item 1"])
    before = session.recommend()
    with pytest.raises(ValueError, match=r"2 item id\(s\) are not in the catalogue: 'no', '\[PAD\]'"):
        session.extend(["item 2", "no", "[PAD]"])
    with pytest.raises(ValueError, match="'no'"):
        session.recommend(candidates=["item 2", "no"])
    assert session.history == ["item 1"]
    assert session.recommend() == before
    lenient = Session(Recommender(model, item_tokenizer), ["[UNK]", "item 1", "no"], on_unknown="unk")
    assert lenient.recommend() == before
    assert [found.item for found in lenient.recommend(candidates=["no", "item 5"])] == ["item 5"]
    assert lenient.recommend(candidates=[]) == []
    with pytest.raises(ValueError, match="on_unknown must be"):
        Session(Recommender(model, item_tokenizer), on_unknown="drop")


@pytest.mark.parametrize("top_k", [0, -1, N_ITEMS + 1])
def test_a_list_of_impossible_length_is_refused(top_k, make_model, item_tokenizer):
    with pytest.raises(ValueError, match=f"top_k must be between 1 and the {N_ITEMS} items"):
        Session(Recommender(make_model(), item_tokenizer)).recommend(top_k=top_k)


def test_an_empty_history_needs_a_prompt(make_model, item_tokenizer):
    session = Session(Recommender(make_model(instruction="", response=""), item_tokenizer))
    with pytest.raises(ValueError, match="no known item, and there is no prompt"):
        session.recommend()
    session.append("item 1")
    assert session.recommend()


def test_scores_that_are_nan_are_an_error(make_model, item_tokenizer):
    model = make_model()
    with torch.no_grad():
        model.input_proj.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        Session(Recommender(model, item_tokenizer), ["item 1"]).recommend()


def test_a_reading_that_fails_leaves_the_session_as_it_was(make_model, item_tokenizer):
    model = make_model()
    session = Session(Recommender(model, item_tokenizer), CLICKS[:3])
    session.recommend()
    session.append(CLICKS[3])

    def fail(*arguments, **options):
        raise RuntimeError("the device is gone")

    forward, model.base.forward = model.base.forward, fail
    with pytest.raises(RuntimeError, match="the device is gone"):
        session.recommend()
    model.base.forward = forward
    scores, expected = (
        model.scoring_vectors @ session.vector(),
        plain_scores(model, tokens_of(item_tokenizer, CLICKS[:4])),
    )
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_a_sasrec_is_read_anew(item_tokenizer):
    torch.manual_seed(0)
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=16, max_history=MAX_HISTORY)).eval()
    session = Session(Recommender(model, item_tokenizer), on_unknown="unk")
    with pytest.raises(ValueError, match="no known item, and there is no prompt"):
        session.recommend()
    for place in range(1, len(CLICKS) + 1):
        session.append(CLICKS[place - 1])
        items, scores = asked_anew(model, item_tokenizer, CLICKS[:place], top_k=5)
        recommended = session.recommend(top_k=5)
        assert [found.item for found in recommended] == items
        torch.testing.assert_close(torch.tensor([found.score for found in recommended]), scores, rtol=1e-5, atol=1e-5)
    assert session.nbytes == 0


def test_threads_that_click_in_one_session_lose_nothing(make_model, item_tokenizer):
    model = make_model(max_history=N_ITEMS)
    session = Session(Recommender(model, item_tokenizer))

    def click(numbers):
        for number in numbers:
            session.append(f"item {number}")
            session.recommend(top_k=1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(click, [range(start, N_ITEMS, 4) for start in range(4)]))
    assert sorted(session.history) == sorted(f"item {number}" for number in range(N_ITEMS))
    expected = plain_scores(model, tokens_of(item_tokenizer, session.history))
    torch.testing.assert_close(model.scoring_vectors @ session.vector(), expected, rtol=1e-5, atol=1e-5)
