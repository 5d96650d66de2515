"""Leave-one-out."""

from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from e4srec_hf.data import SequenceCollator, build_item_tokenizer, cut_into_segments, leave_one_out


def test_the_last_item_is_for_testing_and_the_one_before_for_validation():
    splits = leave_one_out(Dataset.from_dict({"user_id": ["u"], "item_ids": [["a", "b", "c", "d"]]}))
    assert {name: split["item_ids"][0] for name, split in splits.items()} == {
        "train": ["a", "b"],
        "validation": ["a", "b", "c"],
        "test": ["a", "b", "c", "d"],
    }


def test_times_are_split_with_the_items():
    splits = leave_one_out(
        Dataset.from_dict({"user_id": ["u"], "item_ids": [["a", "b", "c"]], "timestamps": [[1, 2, 3]]})
    )
    assert [split["timestamps"][0] for split in splits.values()] == [[1], [1, 2], [1, 2, 3]]


def test_users_with_fewer_than_three_items_only_train_and_are_counted(caplog):
    rows = {"user_id": ["one", "two", "three"], "item_ids": [["a"], ["a", "b"], ["a", "b", "c"]]}
    import transformers

    transformers.utils.logging.enable_propagation()
    splits = leave_one_out(Dataset.from_dict(rows))
    transformers.utils.logging.disable_propagation()
    assert splits["train"]["item_ids"][:] == [["a"], ["a", "b"], ["a"]]
    assert splits["validation"]["user_id"][:] == splits["test"]["user_id"][:] == ["three"]
    assert "2 of 3 users have fewer than 3 items: they only train" in caplog.text


def test_a_data_set_of_short_users_only_has_empty_tests():
    splits = leave_one_out(Dataset.from_dict({"user_id": ["u"], "item_ids": [["a"]]}))
    assert (len(splits["train"]), len(splits["validation"]), len(splits["test"])) == (1, 0, 0)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True), st.integers(1, 9))
def test_segments_make_each_item_a_target_exactly_once(lengths, max_history):
    items = [str(number) for number in range(40)]
    rows = Dataset.from_dict({"user_id": [f"u{n}" for n in lengths], "item_ids": [items[:n] for n in lengths]})
    segments = cut_into_segments(rows, max_history)
    collate = SequenceCollator(build_item_tokenizer(items), "all", max_history=max_history)
    batch = collate(segments.to_list())
    found = {}
    for user, ids, labels in zip(segments["user_id"], batch["input_ids"], batch["labels"], strict=True):
        for column in (labels != -100).nonzero().flatten().tolist():
            before = [int(i) - 2 for i in ids[:column] if i > 1]
            target = int(ids[column]) - 2
            assert before == list(range(target - len(before), target))  # just before it, in order
            assert len(before) <= max_history
            found.setdefault(user, []).append(target)
    assert {user: sorted(targets) for user, targets in found.items()} == {f"u{n}": list(range(n)) for n in lengths}


def test_segments_are_cut_from_the_end_with_one_item_in_common():
    rows = Dataset.from_dict(
        {"user_id": ["u", "v"], "item_ids": [list("abcdefgh"), list("abc")], "timestamps": [list(range(8)), [0, 1, 2]]}
    )
    segments = cut_into_segments(rows, 3)
    assert ["".join(items) for items in segments["item_ids"]] == ["ab", "bcde", "efgh", "abc"]
    assert segments["user_id"] == ["u", "u", "u", "v"]
    assert segments["timestamps"][1] == [1, 2, 3, 4]
