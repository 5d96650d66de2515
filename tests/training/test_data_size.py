"""Batch size, epochs and warm-up follow from the size of the data, unless they are given."""

import pytest
from transformers import TrainingArguments

from e4srec_hf.training.arguments import parse_arguments
from e4srec_hf.training.data_size import settings_for, settle


@pytest.mark.parametrize(
    ("users", "interactions", "batch", "epochs"),
    [
        (22_363, 198_502, 32, 3),  # Amazon Beauty: 6.9 targets a user
        (1_090, 52_551, 4, 3),  # LastFM: 46.2
        (400, 4_400, 8, 10),
        (3, 9, 32, 10),
        (1_000_000, 10_000_000, 32, 3),
    ],
)
def test_sizes(users, interactions, batch, epochs):
    found = settings_for(users, interactions, 50)
    assert (found["per_device_train_batch_size"], found["num_train_epochs"]) == (batch, epochs)


def test_long_histories_count_as_far_as_they_are_read():
    assert settings_for(1000, 1_000_000, 50) == settings_for(1000, 52_000, 50)


def test_processes_share_a_step():
    alone, four = settings_for(22_363, 198_502, 50), settings_for(22_363, 198_502, 50, processes=4)
    assert four["per_device_train_batch_size"] * 4 == alone["per_device_train_batch_size"]


@pytest.mark.parametrize("users", [0, 1])
def test_next_to_nothing(users):
    found = settings_for(users, users, 50)
    assert found["per_device_train_batch_size"] >= 1
    assert found["num_train_epochs"] == 10


def test_what_was_given_stays(tmp_path):
    flags = ["--dataset", "log.txt", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    facts = {"users": 400, "interactions": 4_400}
    _, adapter, _, training = parse_arguments([*flags, "--num_train_epochs", "2"])
    settled, said = settle(training, adapter, facts)
    assert isinstance(settled, TrainingArguments)
    assert (settled.num_train_epochs, settled.per_device_train_batch_size, settled.warmup_steps) == (2, 8, 0.1)
    assert "--per_device_train_batch_size 8" in said
    assert "epochs" not in said
    _, adapter, _, training = parse_arguments([*flags, "--max_steps", "7"])
    assert "epochs" not in settle(training, adapter, facts)[1]
    every = ["--num_train_epochs", "2", "--per_device_train_batch_size", "5", "--warmup_steps", "3"]
    _, adapter, _, training = parse_arguments([*flags, *every])
    assert settle(training, adapter, facts)[1] == ""
