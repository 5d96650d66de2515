"""The object that every way to serve a model stands on."""

import threading

import pytest

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.modeling import reading
from e4srec_hf.serving import Recommender
from e4srec_hf.serving.table_files import table_of
from tests.serving.conftest import one_at_a_time


def as_rows(users, ranked):
    return table_of(list(users), ranked).to_pylist()


@pytest.mark.parametrize("batch_size", [1, 7, 256])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_many_histories_are_ranked_as_one_at_a_time(recommender, users, titles, batch_size, exclude_seen):
    asked = {"top_k": 6, "exclude_seen": exclude_seen}
    ranked = recommender.recommend(list(users.values()), batch_size=batch_size, on_unknown="unk", **asked)
    assert as_rows(users, ranked) == one_at_a_time(recommender, users, titles, **asked)


def test_only_candidates_that_are_not_excluded_are_ranked(recommender, users, titles, raw_ids):
    hidden = {user: raw_ids[len(user) % 3 :: 4] for user in users}
    ranked = recommender.recommend(
        list(users.values()),
        top_k=9,
        candidates=raw_ids[:20],
        exclude=["item 1", "item 19", "item 25"],
        exclude_each=list(hidden.values()),
        on_unknown="unk",
    )

    def keep(user, item):
        is_chosen = item in raw_ids[:20] and item not in ("item 1", "item 19", "item 25")
        return is_chosen and item not in hidden[user]

    assert as_rows(users, ranked) == one_at_a_time(recommender, users, titles, keep=keep, top_k=9)
    assert any(len(items.items) < 9 for items in ranked)  # fewer are left, and the list is not padded


def test_empty_lists_mean_what_they_say(recommender):
    def names(**asked):
        return [[item.item for item in ranked.items] for ranked in recommender.recommend(twice, top_k=28, **asked)]

    twice = [["item 1"], ["item 1"]]
    everything, _ = names()
    assert "item 4" in everything
    assert names(candidates=[]) == [[], []]
    assert names(exclude=[]) == names(exclude_each=[[], []]) == [everything, everything]
    assert names(exclude_each=[[], ["item 4"]]) == [everything, [item for item in everything if item != "item 4"]]


def test_a_history_without_known_items_gets_what_the_prompt_alone_gives(recommender):
    empty, lost, known = recommender.recommend([[], ["no such"], ["item 3"]], on_unknown="unk")
    assert empty.items == lost.items != known.items
    assert [items.fallback for items in (empty, lost, known)] == [True, True, False]
    assert [items.unknown_items for items in (empty, lost, known)] == [0, 1, 0]


def test_a_model_without_a_prompt_has_nothing_for_such_a_history(item_tokenizer):
    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8, num_hidden_layers=1))
    recommender = Recommender(model, item_tokenizer)
    lost, known = recommender.recommend([["no such"], ["item 3"]], on_unknown="unk")
    assert lost == ([], True, 1)
    assert len(known.items) == 10
    assert recommender.recommend([[], []]) == [([], True, 0)] * 2


def test_the_instruction_is_read_once_in_a_life_and_by_all_threads(recommender, monkeypatch):
    read, read_instruction = [], reading.read_instruction
    recommender.recommend([["item 1"]])
    monkeypatch.setattr(reading, "read_instruction", lambda *given: read.append(given) or read_instruction(*given))
    expected = recommender.recommend([["item 2"]])
    found = []
    threads = [threading.Thread(target=lambda: found.append(recommender.recommend([["item 2"]]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
    assert read == []


def test_no_histories_and_unusual_titles(recommender):
    assert recommender.recommend([]) == []
    recommender.titles = {"item 2": "\x1b[2J", "item 4": 7, "item 6": "x" * 2000, "item 8": "Emma"}
    everything = recommender.recommend([["item 1"]], top_k=30, exclude_seen=False)[0].items
    assert {item.item: item.title for item in everything if item.title} == {"item 8": "Emma"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"histories": [["item 1"], ["item 1", "no such"]]}, "not in the catalogue: 'no such' .history 1."),
        ({"candidates": ["no such", "item 1"]}, "1 item id.s. are not in the catalogue: 'no such'"),
        ({"exclude": ["[PAD]"]}, "not in the catalogue: '.PAD.'"),
        ({"exclude_each": [["no such"]]}, "not in the catalogue: 'no such' .history 0."),
        ({"exclude_each": []}, "exclude_each has 0 lists for 1 histories"),
        ({"top_k": 0}, "top_k must be between 1 and the 30 items"),
        ({"top_k": 31}, "top_k must be between 1 and the 30 items"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"on_unknown": "drop"}, "on_unknown must be"),
    ],
)
def test_what_cannot_be_asked_is_refused(recommender, asked, message):
    with pytest.raises(ValueError, match=message):
        recommender.recommend(**{"histories": [["item 1"]], **asked})


@pytest.mark.parametrize("wrong", ["item 1", [1], [None]])
@pytest.mark.parametrize("name", ["candidates", "exclude"])
def test_what_is_no_list_of_raw_ids_is_refused(recommender, name, wrong):
    with pytest.raises(TypeError, match="Items must be a list of raw item ids"):
        recommender.recommend([["item 1"]], on_unknown="unk", **{name: wrong})


def test_a_tokenizer_of_another_model_is_refused(recommender):
    with pytest.raises(ValueError, match="they do not belong together"):
        Recommender(recommender.model, build_item_tokenizer(["a", "b"]))
