"""What a training is given: what it was taken for, its splits, and rows that are streamed."""

import csv
from collections import Counter

import pytest
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import StreamedSequences, build_item_tokenizer, leave_one_out, load_sequences, make_demo_world
from e4srec_hf.data.description import describe_data
from e4srec_hf.data.opening import load_training_data
from e4srec_hf.data.prepared import load_split
from e4srec_hf.hub.datasets import save_dataset
from e4srec_hf.preparation import prepare
from e4srec_hf.training.trainer import RankingTrainer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def prepared(tmp_path):
    """The demo's readers as a log, split in time."""
    world = make_demo_world(n_users=60, n_items=30)
    with (tmp_path / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("user_id", "item_id", "timestamp"))
        for user, items in zip(world.sequences["user_id"], world.sequences["item_ids"], strict=True):
            rows.writerows((user, item, 1000 * place) for place, item in enumerate(items))
    prepare(
        "table",
        [tmp_path / "log.csv"],
        tmp_path / "prepared",
        split="time",
        user_core=3,
        item_core=1,
        oldest="1970-01-01",
    )
    return tmp_path / "prepared"


def test_a_prepared_folder_has_its_own_splits(prepared):
    data = load_training_data(prepared)
    assert data.kind == "a prepared data set in a folder, split time"
    assert data.facts["split"]["kind"] == "time"
    expected = describe_data(prepared, load_sequences(str(prepared)), len(data.items))
    assert {name: data.facts[name] for name in expected} == expected
    assert data.splits["test"]["item_ids"][:] == load_split(prepared, "time", "test")["item_ids"][:]
    assert data.sequences["user_id"][:] == load_sequences(str(prepared))["user_id"][:]


def test_everything_else_is_split_leave_one_out(tmp_path):
    world = make_demo_world(n_users=20, n_items=20)
    save_dataset(world.sequences, tmp_path / "saved", titles=world.titles)
    text = "".join(
        f"{user} {' '.join(items)}\n"
        for user, items in zip(world.sequences["user_id"], world.sequences["item_ids"], strict=True)
    )
    (tmp_path / "log.txt").write_text(text)
    world.sequences.to_parquet(tmp_path / "log.parquet")
    world.sequences.save_to_disk(tmp_path / "folder")
    kinds = {
        "saved": "a prepared data set in a folder, split leave_one_out",
        "log.txt": "a text file with one user a line",
        "log.parquet": "a table of sequences",
        "folder": "a folder saved by datasets",
    }
    expected = {name: rows["item_ids"][:] for name, rows in leave_one_out(world.sequences).items()}
    for name, kind in kinds.items():
        data = load_training_data(tmp_path / name)
        assert data.kind == kind
        assert {split: rows["item_ids"][:] for split, rows in data.splits.items()} == expected
        if name != "saved":
            with pytest.raises(ValueError, match=f"cannot be streamed: it is {kind}"):
                load_training_data(tmp_path / name, streaming=True)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_training_data(tmp_path / "nothing.txt")


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    """`datasets` sleeps for five seconds after each pass over a stream."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_rows_come_once_an_epoch_in_another_order_each(prepared, workers):
    data, plain = load_training_data(prepared, streaming=True, seed=1), load_training_data(prepared)
    assert isinstance(data.train, StreamedSequences)
    assert len(data.train) == len(plain.train)
    orders = []
    for epoch in (0, 1, 0):
        data.train.set_epoch(epoch)
        loader = DataLoader(data.train, batch_size=7, collate_fn=list, num_workers=workers)
        orders.append([row["user_id"] for batch in loader for row in batch])
    assert Counter(orders[0]) == Counter(orders[1]) == Counter(plain.train["user_id"])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(map(tuple, data.train["item_ids"])) == sorted(map(tuple, plain.train["item_ids"]))


def trainer_on(data, tmp_path, **arguments):
    tokenizer = build_item_tokenizer(data.items)
    model = SASRecModel(SASRecConfig(vocab_size=len(tokenizer), hidden_size=8, max_history=10))
    settings = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "use_cpu": True, "report_to": "none"}
    return RankingTrainer(
        model,
        TrainingArguments(str(tmp_path / "trained"), eval_strategy="epoch", **settings | arguments),
        tokenizer=tokenizer,
        train_dataset=data.train,
        eval_dataset=data.validation,
    )


def test_a_trainer_counts_epochs_and_steps_of_a_stream_as_of_rows(prepared, tmp_path):
    streamed, plain = (trainer_on(load_training_data(prepared, streaming=way), tmp_path) for way in (True, False))
    assert streamed.targets_a_step() == plain.targets_a_step()
    seen = Counter()
    collate = streamed.data_collator

    def watched(rows):
        seen.update(row["user_id"] for row in rows)
        return collate(rows)

    streamed.data_collator = watched
    for trainer in (streamed, plain):
        trainer.train()
    assert streamed.state.global_step == plain.state.global_step
    assert [entry["epoch"] for entry in streamed.state.log_history if "eval_ndcg@10" in entry] == [1.0, 2.0]
    assert seen == Counter(dict.fromkeys(load_training_data(prepared).train["user_id"], 2))
    with pytest.raises(ValueError, match="Streamed rows are not cut or sorted"):
        trainer_on(load_training_data(prepared, streaming=True), tmp_path, train_sampling_strategy="group_by_length")
