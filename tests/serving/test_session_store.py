"""Many sessions by name: which of them stay, and what threads get."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from e4srec_hf.serving import Recommender, Session, Sessions
from tests.conftest import N_ITEMS
from tests.serving.clicking import MAX_HISTORY, asked_anew, tokens_read


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_sessions_go_by_age_and_by_number(make_model, item_tokenizer):
    clock = Clock()
    sessions = Sessions(Recommender(make_model(), item_tokenizer), max_sessions=3, max_age=60, clock=clock)
    first = sessions.start("a", ["item 1"])
    for name in "bc":
        clock.now += 10
        sessions.start(name)
    assert sessions["a"] is first  # used now, at 120: b waits longest
    sessions.start("d")
    assert ["b" in sessions, len(sessions)] == [False, 3]
    clock.now = 179  # c was last used at 120
    assert "c" in sessions
    clock.now = 180
    assert [name in sessions for name in "acd"] == [False, False, False]
    assert len(sessions) == 0
    with pytest.raises(KeyError, match="There is no session 'a'"):
        sessions["a"]
    assert [found.item for found in first.recommend(top_k=1)]  # whoever still holds it can go on


def test_asking_whether_a_session_is_there_does_not_keep_it(make_model, item_tokenizer):
    clock = Clock()
    sessions = Sessions(Recommender(make_model(), item_tokenizer), max_age=10, clock=clock)
    sessions.start("a")
    clock.now += 6
    assert "a" in sessions
    clock.now += 6
    assert "a" not in sessions


def test_a_session_is_replaced_by_one_of_its_name_and_ended(make_model, item_tokenizer):
    sessions = Sessions(Recommender(make_model(), item_tokenizer), max_sessions=2)
    sessions.start("a", ["item 1"])
    sessions.start("b")
    second = sessions.start("a", ["item 2"])
    assert len(sessions) == 2
    assert sessions["a"] is second
    sessions.end("a")
    sessions.end("a")
    assert "a" not in sessions
    assert "b" in sessions


@pytest.mark.parametrize("limits", [{"max_sessions": 0}, {"max_age": 0}, {"max_age": float("nan")}], ids=str)
def test_limits_are_positive(limits, make_model, item_tokenizer):
    with pytest.raises(ValueError, match="must be positive"):
        Sessions(Recommender(make_model(), item_tokenizer), **limits)


def test_what_is_wrong_with_sessions_is_said_before_the_first(make_model, item_tokenizer):
    with pytest.raises(ValueError, match="on_unknown must be"):
        Sessions(Recommender(make_model(), item_tokenizer), on_unknown="drop")


def test_thousands_of_sessions_read_the_instruction_once_and_only_some_stay(make_model, item_tokenizer):
    model = make_model(response="")
    Session(Recommender(model, item_tokenizer), ["item 1"]).recommend()
    read = tokens_read(model)
    sessions = Sessions(Recommender(model, item_tokenizer), max_sessions=100)
    for number in range(2000):
        sessions.start(number, [f"item {number % N_ITEMS}"]).recommend(top_k=1)
    assert len(sessions) == 100
    assert read == [len(model.instruction_ids)] + 2000 * [1]
    assert [number in sessions for number in (0, 1899, 1900, 1999)] == [False, False, True, True]


def test_threads_may_share_sessions(make_model, item_tokenizer):
    model = make_model(max_history=MAX_HISTORY)
    sessions = Sessions(Recommender(model, item_tokenizer), max_sessions=5)
    histories = {number: [f"item {(number * 7 + place) % N_ITEMS}" for place in range(10)] for number in range(24)}
    expected = {number: asked_anew(model, item_tokenizer, items, top_k=5) for number, items in histories.items()}
    barrier = threading.Barrier(6)

    def click_through(numbers):
        barrier.wait()
        found = {}
        for number in numbers:
            session = sessions.start(number)
            for item in histories[number]:
                session.append(item)
                session.recommend()
            found[number] = session.recommend(top_k=5)
        return found

    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(click_through, [range(start, 24, 6) for start in range(6)]))
    found = {number: recommended for part in parts for number, recommended in part.items()}
    for number, (items, scores) in expected.items():
        assert [recommended.item for recommended in found[number]] == items
        of_session = torch.tensor([recommended.score for recommended in found[number]])
        torch.testing.assert_close(of_session, scores, rtol=1e-5, atol=1e-5)
    assert len(sessions) == 5
