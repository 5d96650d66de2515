"""Several processes that train together have one start, and end as one process does."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

SCRIPT = """
import json
import os
import sys
from types import SimpleNamespace

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import TrainingArguments

from e4srec_hf import E4SRecModel, RankingTrainer, SASRecConfig, SASRecModel, save_trained
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.training.fitted_start import fit_start
from e4srec_hf.training.arguments import ModelArguments

folder, base, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
arguments = TrainingArguments(
    f"{folder}/out", per_device_train_batch_size=8 // processes, num_train_epochs=2, use_cpu=True, report_to=[],
    save_strategy="no", disable_tqdm=True, optim="sgd", learning_rate=0.1,
)
rank = arguments.process_index
items = build_item_tokenizer([f"i{number}" for number in range(40)])
rows = Dataset.from_list(
    [{"item_ids": [f"i{(user * 7 + place) % 40}" for place in range(3 + user % 9)]} for user in range(53)]
)
torch.manual_seed(0)
sasrec = SASRecModel(SASRecConfig(vocab_size=len(items), hidden_size=8, max_history=8, dropout=0.0))
if rank == 0:
    save_trained(sasrec, items, f"{folder}/sasrec")
if processes > 1:
    torch.distributed.barrier()
table = sasrec.item_embeddings.weight.detach().clone()
lora = {"r": 4, "lora_dropout": 0.0}
model = E4SRecModel.from_base(base, table, lora=lora, max_history=8, instruction="Read:", head="tied")
with torch.no_grad():
    model.input_proj.weight.mul_(1 - 2 * rank)  # the fit of another process differs
data = SimpleNamespace(train=rows, validation=rows)
rates = fit_start(model, ModelArguments(), arguments, f"{folder}/sasrec", data, items)
start = {"score": model.score.weight, "input_proj": model.input_proj.weight, "bias": model.input_proj.bias}
name = f"{folder}/{processes}-{rank}"
save_file({part: weight.detach().clone() for part, weight in start.items()}, f"{name}-start.safetensors")
with open(f"{name}.json", "w") as file:
    json.dump(rates, file)
RankingTrainer(model, arguments, tokenizer=items, train_dataset=rows, learning_rates=rates).train()
trained = {key: value.detach().clone() for key, value in model.named_parameters() if value.requires_grad}
save_file(trained, f"{name}-end.safetensors")
if processes > 1:
    torch.distributed.barrier()
os._exit(0)  # on a busy machine, threads of the process group may abort while the interpreter ends
"""


@pytest.mark.slow
def test_two_processes_have_the_start_and_the_rates_of_one(tmp_path, base_dir):
    (tmp_path / "train.py").write_text(SCRIPT)
    for processes in (1, 2):
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        done = subprocess.run(
            [sys.executable, *launch, tmp_path / "train.py", tmp_path, base_dir, str(processes)],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 0, done.stderr
    names = ("1-0", "2-0", "2-1")
    rates = [json.loads((tmp_path / f"{name}.json").read_text()) for name in names]
    assert rates[0].keys() == {"score", "input_proj"}
    assert rates[1] == rates[2] == rates[0]
    one, *both = (load_file(tmp_path / f"{name}-start.safetensors") for name in names)
    assert all(start[name].equal(weight) for start in both for name, weight in one.items())
    one, *both = (load_file(tmp_path / f"{name}-end.safetensors") for name in names)
    for name, weight in one.items():
        for end in both:
            assert float((weight - end[name]).norm()) <= 1e-5 * float(weight.norm()) + 1e-7, name
