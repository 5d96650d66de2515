"""What is written down of a training."""

import hashlib
import importlib.metadata
import math
import platform

import pytest
import torch
from datasets import Dataset
from transformers import TrainerState, TrainingArguments

from e4srec_hf.cards.facts import (
    add_facts,
    describe_hardware,
    describe_training,
    device_name,
    load_facts,
    package_versions,
    training_settings,
)
from e4srec_hf.data import load_sequences, read_sequences, sequences_sha256
from e4srec_hf.data.description import describe_data, is_hub_id, without_folders

LOG = "u1 a b a\nu2 b c d é\n"


def test_data_is_counted_and_hashed_whatever_the_format(tmp_path):
    (tmp_path / "log.txt").write_text(LOG)
    sequences = load_sequences(str(tmp_path / "log.txt"))
    sequences.to_parquet(tmp_path / "log.parquet")
    lines = '["u1", ["a", "b", "a"]]\n["u2", ["b", "c", "d", "é"]]\n'
    found = describe_data(tmp_path / "log.txt", sequences)
    assert found == {
        "name": "log.txt",
        "hub_id": None,
        "users": 2,
        "items": 5,
        "interactions": 7,
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
    again = describe_data("org/name", load_sequences(str(tmp_path / "log.parquet")), 9)
    assert again == found | {"name": "org/name", "hub_id": "org/name", "items": 9}
    changed = Dataset.from_dict({"user_id": ["u1", "u2"], "item_ids": [["a", "b"], ["a", "b", "c", "d", "é"]]})
    assert sequences_sha256(changed) != found["sha256"]
    assert sequences_sha256(read_sequences(tmp_path / "log.txt")) == found["sha256"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("org/name", True), ("demo", False), ("a/b/c", False), ("./name", False), ("/tmp", False), (None, False)],
)
def test_only_a_namespace_and_a_name_are_a_hub_id(name, expected):
    assert is_hub_id(name) == expected


def test_a_folder_that_looks_like_a_hub_id_is_none(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("org/name")


def test_paths_are_cut_to_their_names(tmp_path):
    (tmp_path / "log.txt").touch()
    assert without_folders(str(tmp_path / "log.txt")) == "log.txt"
    for value in ("not/there.txt", "a\nb", "\0", 3, None, ""):
        assert without_folders(value) == value


def arguments(tmp_path, **settings):
    return TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], **settings)


def test_settings_hardware_and_versions_are_those_of_the_run(tmp_path):
    settings = training_settings(arguments(tmp_path, learning_rate=0.5, lr_scheduler_type="cosine"))
    assert (settings["learning_rate"], settings["lr_scheduler_type"]) == (0.5, "cosine")
    hardware = describe_hardware(arguments(tmp_path))
    assert hardware == {"device": device_name("cpu"), "processes": 1, "threads": torch.get_num_threads()}
    assert hardware["device"]
    versions = package_versions()
    assert versions["python"] == platform.python_version()
    for package in ("torch", "transformers", "peft", "datasets"):
        assert versions[package] == importlib.metadata.version(package)


def test_the_selected_epoch_is_that_of_the_best_weights_if_they_are_loaded(tmp_path):
    state = TrainerState()
    state.log_history = [{"eval_ndcg@10": 0.5 - n, "epoch": float(n), "step": 3 * n} for n in (1, 2)]
    state.best_global_step = 3
    best = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    found = describe_training(arguments(tmp_path, **best), state, 12.345)
    assert found["seconds"] == 12.3
    assert found["selected"] == found["curve"][0] == {"epoch": 1.0, "step": 3, "ndcg@10": -0.5}
    assert describe_training(arguments(tmp_path), state, 1.0)["selected"] is None


def test_the_last_loss_that_was_not_a_number_is_known_by_its_step(tmp_path):
    state = TrainerState(global_step=30)
    state.log_history = [
        {"loss": loss, "epoch": n, "step": 10 * n} for n, loss in enumerate((math.nan, math.inf, 2.0), start=1)
    ]
    found = describe_training(arguments(tmp_path, learning_rate=0.5), state, 1.0)
    assert (found["steps"], found["learning_rate"], found["not_finite"]) == (30, 0.5, 20)
    assert [entry["step"] for entry in found["curve"]] == [30]
    state.log_history = state.log_history[2:]
    assert describe_training(arguments(tmp_path), state, 1.0)["not_finite"] is None


def test_facts_are_added_to_those_there_are(tmp_path):
    assert load_facts(tmp_path) == {}
    add_facts(tmp_path, {"a": 1, "b": 2})
    add_facts(tmp_path, {"b": 3})
    assert load_facts(tmp_path) == {"a": 1, "b": 3}
