"""Leave-one-out."""

from datasets import Dataset

from e4srec_hf.data import leave_one_out


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
