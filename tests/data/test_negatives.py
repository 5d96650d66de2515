"""Sampled negatives."""

import pytest
from datasets import Dataset

from e4srec_hf.data import draw_negatives, with_candidates, with_sampled_negatives

ITEMS = list("abcdefgh")
SEQUENCES = Dataset.from_dict({"user_id": ["u", "v"], "item_ids": [["a", "b", "a"], ["c"]]})


def test_too_few_unseen_items_name_how_many_all_users_have():
    items = [f"i{number}" for number in range(10)]
    histories = [items[:2], items[:3] * 2, [*items[:7], "unknown"], items[:1]]
    sequences = Dataset.from_dict({"user_id": list("abcd"), "item_ids": histories})
    with pytest.raises(ValueError, match=r"User 'b' has only 7 unseen items; 8 .* at most 3 \(--negatives 3\)\."):
        draw_negatives(sequences, items, count=8)
    assert {len(drawn) for drawn in draw_negatives(sequences, items, count=3).values()} == {3}
    everything = Dataset.from_dict({"user_id": ["a"], "item_ids": [items]})
    with pytest.raises(ValueError, match=r"User 'a' has only 0 unseen items; .* rank among the whole catalogue"):
        draw_negatives(everything, items, count=1)


def test_negatives_are_unseen_all_different_and_depend_on_the_seed_alone():
    negatives = draw_negatives(SEQUENCES, ITEMS, count=5, seed=3)
    for user, items in zip(SEQUENCES["user_id"], SEQUENCES["item_ids"], strict=True):
        assert len(set(negatives[user])) == 5
        assert not set(negatives[user]) & set(items)
    assert negatives == draw_negatives(SEQUENCES, ITEMS, count=5, seed=3)
    assert any(negatives != draw_negatives(SEQUENCES, ITEMS, count=5, seed=seed) for seed in range(5))


def test_a_draw_does_not_depend_on_other_users_or_splits(tmp_path):
    alone = draw_negatives(SEQUENCES.select([1]), ITEMS, count=5, seed=3)
    assert alone["v"] == draw_negatives(SEQUENCES, ITEMS, count=5, seed=3)["v"]
    split = Dataset.from_dict({"user_id": ["u"], "item_ids": [["a"]]})
    drawn = with_sampled_negatives(split, "5", sequences=SEQUENCES, items=ITEMS, seed=3)
    assert "b" not in drawn["candidates"][0]
    (tmp_path / "file").write_text("u c d\n")
    read = with_sampled_negatives(split, str(tmp_path / "file"), sequences=SEQUENCES, items=ITEMS)
    assert read["candidates"][:] == [["c", "d"]]


def test_a_user_who_has_seen_too_much_is_named():
    with pytest.raises(ValueError, match="User 'u' has only 6 unseen items; 7 negatives cannot be drawn"):
        draw_negatives(SEQUENCES, ITEMS, count=7)


def test_users_without_negatives_are_named():
    with pytest.raises(ValueError, match=r"1 user\(s\) have no negatives: 'v'"):
        with_candidates(SEQUENCES, {"u": ["c"]})
    assert with_candidates(SEQUENCES, {"u": ["c"], "v": ["d"]})["candidates"][:] == [["c"], ["d"]]


def test_no_negatives_are_refused():
    with pytest.raises(ValueError, match="a whole number of at least 1"):
        with_sampled_negatives(None, "0", sequences=None, items=[])


@pytest.mark.parametrize("source", ["-5", "1.5", "0", "no file", ""])
def test_what_is_neither_a_number_nor_a_file_is_refused(source):
    rows = Dataset.from_dict({"user_id": ["u"], "item_ids": [["a"]]})
    with pytest.raises(ValueError, match=f"--negatives {source}: expected how many to draw"):
        with_sampled_negatives(rows, source, sequences=rows, items=["a", "b"])
