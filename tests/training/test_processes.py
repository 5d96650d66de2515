"""Several processes: each row once, the weights of one process, and no training that is not what was launched."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset, load_dataset
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import StreamedSequences, build_item_tokenizer
from e4srec_hf.training import RankingTrainer
from e4srec_hf.training.processes import LengthGroups, check_processes

USERS = 53


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    for name in ("WORLD_SIZE", "ACCELERATE_USE_CPU", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


def settings(**changes):
    plain = {"world_size": 1, "use_cpu": True, "output_dir": "out", "fsdp": None, "deepspeed": None}
    return SimpleNamespace(**plain | {"parallelism_config": None} | changes)


@pytest.mark.parametrize(
    ("changes", "environment", "message"),
    [
        ({}, {"WORLD_SIZE": "2"}, "2 processes were launched, but accelerate sees 1: each would train a model"),
        ({}, {"OMPI_COMM_WORLD_SIZE": "4"}, "4 processes were launched, but accelerate sees 1"),
        ({"world_size": 2}, {"WORLD_SIZE": "4"}, "4 processes were launched, but accelerate sees 2"),
        ({}, {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, "has started one process, not N"),
        ({"fsdp": True}, {}, "FSDP was asked for"),
        ({"world_size": 2}, {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2"}, "FSDP was asked for"),
        ({"deepspeed": "zero.json"}, {}, "DeepSpeed was asked for"),
        ({}, {"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed was asked for"),
        ({}, {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "Model parallelism was asked for"),
    ],
)
def test_what_does_not_train_as_launched_is_refused(changes, environment, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        check_processes(settings(**changes))


def test_what_trains_as_launched_is_not(monkeypatch):
    check_processes(settings())
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")  # accelerate launch --cpu
    check_processes(settings())
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(settings(world_size=2))


def trainer(tmp_path, train, workers=0, **arguments):
    items = build_item_tokenizer([f"i{number}" for number in range(40)])
    plain = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "use_cpu": True, "report_to": []}
    plain["save_strategy"] = "no"
    return RankingTrainer(
        SASRecModel(SASRecConfig(vocab_size=len(items), hidden_size=8, dropout=0.0)),
        TrainingArguments(
            str(tmp_path / "out"),
            dataloader_num_workers=workers,
            disable_tqdm=True,
            **plain | arguments,
        ),
        tokenizer=items,
        train_dataset=train,
    )


def test_a_trainer_is_not_made_where_processes_do_not_see_each_other(tmp_path, monkeypatch):
    made = trainer(tmp_path, None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were launched, but accelerate sees 1"):
        RankingTrainer(made.model, made.args, tokenizer=made.processing_class)


def files(folder, shards):
    """Parquet files of users, who are in no particular file."""
    folder.mkdir()
    rows = {"user_id": [f"u{user}" for user in range(USERS)]}
    rows["item_ids"] = [[f"i{(user * 7 + place) % 40}" for place in range(3 + user % 9)] for user in range(USERS)]
    for shard in range(shards):
        Dataset.from_dict(rows).shard(shards, shard).to_parquet(folder / f"{shard}.parquet")
    names = sorted(map(str, folder.glob("*.parquet")))
    return load_dataset("parquet", data_files=names, split="train", streaming=True)


@pytest.mark.parametrize(("shards", "workers"), [(4, 2), (1, 3), (4, 0)])
def test_each_streamed_row_is_trained_on_once_an_epoch(tmp_path, shards, workers):
    trained = trainer(tmp_path, StreamedSequences(files(tmp_path / "log", shards), USERS, buffer_size=10), workers)
    seen, steps = Counter(), []
    plain, collate = trained.training_step, trained.data_collator

    class Marked:
        def __init__(self):
            self.set_epoch = collate.set_epoch

        def __call__(self, rows):
            return collate(rows) | {"who": torch.tensor([int(row["user_id"][1:]) for row in rows])}

    def step(model, inputs, *rest):
        users = inputs.pop("who").tolist()
        seen.update((int(trained.state.epoch or 0), user) for user in users)
        steps.append(users)
        return plain(model, inputs, *rest)

    trained.data_collator, trained.training_step = Marked(), step
    trained.train()
    assert seen == Counter((epoch, user) for epoch in (0, 1) for user in range(USERS))
    assert [len(users) for users in steps] == 2 * [*(USERS // 4 * [4]), USERS % 4]
    assert steps[:14] != steps[14:]


@pytest.mark.parametrize(("processes", "shards", "workers"), [(2, 4, 2), (3, 1, 2), (2, 2, 0)])
def test_processes_and_workers_divide_the_order_of_one(tmp_path, processes, shards, workers):
    rows = StreamedSequences(files(tmp_path / "log", shards), USERS, buffer_size=10)
    rows.set_epoch(1)
    order = [row["user_id"] for row in rows]
    assert sorted(order) == sorted(f"u{user}" for user in range(USERS))
    rows.rows_a_step = 4 * processes
    found = []
    for process in range(processes):
        loader = DataLoader(rows, batch_size=4, collate_fn=list, num_workers=workers)
        loader = prepare_data_loader(
            loader, num_processes=processes, process_index=process, dispatch_batches=False, put_on_device=False
        )
        loader.set_epoch(1)
        found.append([[row["user_id"] for row in batch] for batch in loader])
    steps = [list(chain(*parts)) for parts in zip(*found, strict=True)]
    assert len(steps) == -(-USERS // (4 * processes))
    assert list(chain(*steps))[:USERS] == order  # what comes after are copies that fill up the last step


def test_files_with_other_rows_than_expected_are_an_error(tmp_path):
    for rows in (USERS - 1, USERS + 1):
        with pytest.raises(ValueError, match=f"have {USERS} rows; {rows} were expected"):
            list(StreamedSequences(files(tmp_path / str(rows), 2), rows))


@pytest.mark.parametrize(
    ("rows", "batch", "processes"), [(53, 4, 2), (53, 8, 3), (5, 4, 3), (48, 4, 3), (1, 4, 2), (7, 2, 3)]
)
def test_the_copies_in_the_last_step_are_known(tmp_path, rows, batch, processes):
    made = trainer(tmp_path, Dataset.from_dict({"item_ids": [["i1", "i2"]] * rows}), per_device_train_batch_size=batch)
    found = []
    for process in range(processes):
        loader = prepare_data_loader(
            DataLoader(range(rows), batch_size=batch),
            num_processes=processes,
            process_index=process,
            put_on_device=False,
        )
        last = [numbers.tolist() for numbers in loader][-1]
        made.args = SimpleNamespace(
            world_size=processes, process_index=process, dataloader_drop_last=False, train_sampling_strategy="random"
        )
        own = made._own_rows_of_last_step()
        found += last if own is None else last[:own]
    assert found == list(range(rows))[-len(found) :]
    assert len(found) == (rows - 1) % (batch * processes) + 1


def test_groups_of_similar_length_are_alike_in_all_processes():
    lengths = torch.randint(2, 40, (200,)).tolist()
    orders = []
    for draws, epoch in ((3, 0), (5, 0), (7, 1)):
        torch.rand(draws)  # as dropout does
        groups = LengthGroups(8, lengths, seed=1)
        groups.set_epoch(epoch)
        orders.append(list(groups))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(200))
    spread = max(
        max(part) - min(part) for part in ([lengths[row] for row in orders[0][at : at + 8]] for at in range(0, 200, 8))
    )
    assert spread < max(lengths) - min(lengths)


@pytest.mark.parametrize(("at", "workers"), [(5, 2), (14, 0)])
def test_a_stream_is_resumed_where_it_was(tmp_path, at, workers):
    stream = files(tmp_path / "log", 3)
    weights = []
    for checkpoint in (None, str(tmp_path / "out" / f"checkpoint-{at}")):
        torch.manual_seed(0)
        rows = StreamedSequences(stream, USERS, buffer_size=10)
        made = trainer(tmp_path, rows, workers, save_strategy="steps", save_steps=at)
        made.train(resume_from_checkpoint=checkpoint)
        assert made.state.global_step == 28
        weights.append(made.model.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=0, msg=name)


SCRIPT = """
import json
import sys

import datasets
import torch
from safetensors.torch import save_file
from transformers import TrainingArguments

from e4srec_hf import E4SRecModel, RankingTrainer, SASRecConfig, SASRecModel
from e4srec_hf.data import StreamedSequences, build_item_tokenizer

folder, base, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
files = {"train": f"{folder}/log/*.parquet"}
rows = datasets.load_dataset("parquet", data_files=files, split="train")
stream = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
items = build_item_tokenizer([f"i{number}" for number in range(40)])
for name, model, streaming, settings in json.loads(sys.argv[4]):
    torch.manual_seed(0)
    if model == "sasrec":
        made = SASRecModel(SASRecConfig(vocab_size=len(items), hidden_size=16, max_history=8, dropout=0.0))
    else:
        made = E4SRecModel.from_base(
            base, torch.randn(len(items), 8), lora={"r": 4, "lora_dropout": 0.0}, max_history=8, instruction="Read:",
            response=model,
        )
    plain = {"per_device_train_batch_size": batch, "num_train_epochs": 2, "use_cpu": True, "report_to": [], "seed": 0,
             "save_strategy": "no", "disable_tqdm": True, "learning_rate": 0.1, "eval_strategy": "epoch",
             "optim": "sgd"}  # Adam makes a step of a rounding error where a gradient is zero, as that of a key's bias
    arguments = TrainingArguments(f"{folder}/out", **plain | settings)
    train = StreamedSequences(stream, len(rows), buffer_size=10) if streaming else rows
    trainer = RankingTrainer(made, arguments, tokenizer=items, train_dataset=train, eval_dataset=rows)
    trainer.train()
    if trainer.is_world_process_zero():
        weights = {key: value for key, value in made.named_parameters() if value.requires_grad}
        save_file({key: value.detach().clone() for key, value in weights.items()}, f"{folder}/{name}.safetensors")
        metrics = [entry["eval_mrr"] for entry in trainer.state.log_history if "eval_mrr" in entry]
        with open(f"{folder}/{name}.json", "w") as file:
            json.dump(metrics, file)
"""
TRAININGS = [
    ("rows", "sasrec", False, {}),
    ("accumulated", "sasrec", False, {"gradient_accumulation_steps": 3}),
    ("by-length", "sasrec", False, {"train_sampling_strategy": "group_by_length"}),
    ("stream", "sasrec", True, {"dataloader_num_workers": 2}),
    ("packed", " Next:", False, {}),
    ("plain", "", True, {"gradient_accumulation_steps": 2}),
]


@pytest.mark.slow
def test_two_processes_end_with_the_weights_and_figures_of_one(tmp_path, base_dir):
    files(tmp_path / "log", 3)
    (tmp_path / "train.py").write_text(SCRIPT)
    found = []
    for processes in (1, 2):
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        command = [
            sys.executable,
            *launch,
            str(tmp_path / "train.py"),
            str(tmp_path),
            str(base_dir),
            str(8 // processes),
        ]
        done = subprocess.run(
            [*command, json.dumps(TRAININGS)],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            env=os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache")},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(
            {
                name: (load_file(tmp_path / f"{name}.safetensors"), json.loads((tmp_path / f"{name}.json").read_text()))
                for name, *_ in TRAININGS
            }
        )
    for name, *_ in TRAININGS:
        (one, figures), (two, others) = (each[name] for each in found)
        assert one.keys() == two.keys()
        assert figures == pytest.approx(others, rel=1e-5), name
        for key, weight in one.items():
            assert float((weight - two[key]).norm()) <= 1e-5 * float(weight.norm()) + 1e-7, (name, key)
