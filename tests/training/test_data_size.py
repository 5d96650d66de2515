"""Batch size, epochs and warm-up follow from the size of the data, unless they are given."""

import pytest
from transformers import TrainingArguments

from e4srec_hf.training.arguments import parse_arguments
from e4srec_hf.training.data_size import head_for, sasrec_batch_size, settings_for, settle


@pytest.mark.parametrize(
    ("users", "targets", "batch", "epochs"),
    [
        (22_363, 150_258, 32, 3),  # Amazon Beauty
        (1_090, 25_700, 8, 5),  # LastFM
        (943, 46_000, 4, 3),  # MovieLens-100K
        (400, 3_600, 8, 10),
        (3, 3, 32, 10),
        (1_000_000, 8_000_000, 32, 3),
        (0, 0, 32, 10),
        (1, 1_000_000, 1, 10),
    ],
)
def test_sizes(users, targets, batch, epochs):
    found = settings_for(users, targets)
    assert (found["per_device_train_batch_size"], found["num_train_epochs"]) == (batch, epochs)


def test_processes_share_a_step():
    alone, four = settings_for(22_363, 150_258), settings_for(22_363, 150_258, batches_a_step=4)
    assert four["per_device_train_batch_size"] * 4 == alone["per_device_train_batch_size"]
    assert four["num_train_epochs"] == alone["num_train_epochs"]


@pytest.mark.parametrize(
    ("users", "processes", "batch"),
    [(22_363, 1, 128), (2_400, 1, 32), (1_090, 1, 16), (400, 1, 8), (3, 1, 8), (0, 1, 8), (22_363, 4, 32), (3, 64, 1)],
)
def test_few_users_are_cut_into_more_steps_of_sasrec(users, processes, batch):
    assert sasrec_batch_size(users, processes) == batch


def test_a_large_catalogue_gets_a_head_that_is_small():
    assert [head_for(items) for items in (2, 50_000, 50_001, 10_000_000)] == ["linear", "linear", "tied", "tied"]


def test_targets_are_counted_as_they_are_trained_on(tmp_path):
    flags = ["--dataset", "log.txt", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    rows = {"item_ids": [["a"] * 500] * 200}

    def batch(*more, **settings):
        _, adapter, _, training = parse_arguments([*flags, *more])
        return settle(training, adapter, rows, **settings)[0].per_device_train_batch_size

    assert batch() == settings_for(200, 200 * 50)["per_device_train_batch_size"] == 4
    assert batch("--max_history", "100") == settings_for(200, 200 * 100)["per_device_train_batch_size"] == 2
    assert batch("--max_targets", "10") == settings_for(200, 200 * 10)["per_device_train_batch_size"] == 4
    cut = settings_for(200 * 10, 200 * 500)["per_device_train_batch_size"]  # rows of 50 targets, as without
    assert batch(all_targets=True) == cut == 4
    assert (
        batch("--max_targets", "10", all_targets=True) == settings_for(2000, 2000 * 10)["per_device_train_batch_size"]
    )


def test_what_was_given_stays(tmp_path):
    flags = ["--dataset", "log.txt", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    rows = {"item_ids": [list("abcdefghi")] * 400}
    _, adapter, _, training = parse_arguments([*flags, "--num_train_epochs", "2"])
    settled, said = settle(training, adapter, rows)
    assert isinstance(settled, TrainingArguments)
    assert (settled.num_train_epochs, settled.per_device_train_batch_size, settled.warmup_steps) == (2, 8, 0.1)
    assert "--per_device_train_batch_size 8" in said
    assert "epochs" not in said
    _, adapter, _, training = parse_arguments([*flags, "--per_device_train_batch_size", "1"])
    assert (
        settle(training, adapter, rows)[0].num_train_epochs == 3
    )  # 400 steps an epoch: 600 take two, and three is least
    _, adapter, _, training = parse_arguments([*flags, "--gradient_accumulation_steps", "4"])
    settled = settle(training, adapter, rows)[0]
    assert (settled.per_device_train_batch_size, settled.num_train_epochs) == (2, 10)  # steps of 8 users, as without
    _, adapter, _, training = parse_arguments([*flags, "--max_steps", "7"])
    assert "epochs" not in settle(training, adapter, rows)[1]
    every = ["--num_train_epochs", "2", "--per_device_train_batch_size", "5", "--warmup_steps", "3"]
    _, adapter, _, training = parse_arguments([*flags, *every])
    assert settle(training, adapter, rows)[1] == ""
