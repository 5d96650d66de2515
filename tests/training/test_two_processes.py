"""Two processes that train together, one of them with fewer targets or none, have the gradients of one process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import random_batch

SCRIPT = """
import os
import sys

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from e4srec_hf import E4SRecModel

dist.init_process_group("gloo")
rank = dist.get_rank()
folder, base = sys.argv[1:]
model = E4SRecModel.from_pretrained(folder, base_model=base).train()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
batch = load_file(f"{folder}/batch.safetensors")
own = slice(0, 4) if rank == 0 else slice(4, None)
parallel = DistributedDataParallel(model)
for step in range(2):
    labels = batch["labels"].clone()
    if step == 1:
        labels[4:] = -100  # nothing to predict for the second process
    model.zero_grad()
    n_targets = int((labels > 1).sum())
    loss = parallel(batch["ids"][own], batch["mask"][own], labels=labels[own], num_items_in_batch=n_targets).loss
    (loss * dist.get_world_size()).backward()  # the processes take the mean
    if rank == 0:
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
        save_file(gradients, f"{folder}/gradients-{step}.safetensors")
dist.barrier()
os._exit(0)  # on a busy machine, threads of the process group may abort while the interpreter ends
"""


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [{}, {"instruction": ""}], ids=str)
def test_two_processes_have_the_gradients_of_one(prompt, make_model, base_dir, tmp_path):
    model = make_model(base_dir, lora={"r": 4, "lora_dropout": 0.0}, **prompt)
    ids, mask = random_batch(rows=6, width=14)
    labels = ids.masked_fill(mask == 0, -100)
    model.save_pretrained(tmp_path)
    save_file({"ids": ids, "mask": mask, "labels": labels}, tmp_path / "batch.safetensors")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(tmp_path), str(base_dir)], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    for step in range(2):
        if step == 1:
            labels[4:] = -100
        model.zero_grad()
        model(ids, mask, labels=labels).loss.backward()
        found = load_file(Path(tmp_path, f"gradients-{step}.safetensors"))
        expected = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * scale + 1e-7, msg=name)
