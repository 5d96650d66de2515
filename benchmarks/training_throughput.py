"""Targets a second of packed training against one row for each target, and how far their numbers are apart.

    python benchmarks/training_throughput.py --dataset Beauty.txt

Both ways train the same model on the same targets with AdamW; they take turns, round by round. One row for each target
is what the reference code does: the whole prompt and the history before the target, so many targets a batch.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from measuring import World, add_arguments, make_world, seconds, spread_sample, write_result
from torch import Tensor

from e4srec_hf.data import SequenceCollator

Batch = dict[str, Tensor]


def one_row_a_target(batch: Batch, size: int) -> Iterator[Batch]:
    """The targets of a batch in random order, each in a row of its own, ``size`` at a time."""
    rows, columns = (batch["labels"] > 0).nonzero(as_tuple=True)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for some in order.split(size):
        labels = torch.full_like(batch["labels"][rows[some]], -100)
        place = torch.arange(len(some)), columns[some]
        labels[place] = batch["labels"][rows[some], columns[some]]
        yield {
            "input_ids": batch["input_ids"][rows[some]],
            "attention_mask": batch["attention_mask"][rows[some]],
            "labels": labels,
        }


def train(world: World, batches: list[Batch], optimizer: torch.optim.Optimizer, device: str) -> None:
    """One step a batch."""
    for batch in batches:
        world.model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def differences(world: World, batch: Batch, device: str) -> dict[str, float]:
    """Largest relative difference of loss, logits and gradients between the two ways, dropout off."""
    world.model.eval()
    found: list[Any] = []
    for plain in (False, True):
        world.model.reader.plain = plain
        world.model.zero_grad()
        output = world.model(**{name: tensor.to(device) for name, tensor in batch.items()})
        output.loss.backward()
        gradients = {n: p.grad.clone() for n, p in world.model.named_parameters() if p.grad is not None}
        found.append((output.loss.detach(), output.logits.detach(), gradients))
    world.model.zero_grad()
    world.model.train()
    (loss, logits, gradients), (expected_loss, expected_logits, expected) = found

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).abs().max() / other.abs().max())

    return {
        "loss": apart(loss, expected_loss),
        "logits": apart(logits, expected_logits),
        "gradients": max(apart(gradients[n], g) for n, g in expected.items() if float(g.abs().max()) > 0),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, layers=4, hidden_size=512)
    parser.add_argument("--users", type=int, default=128, help="Users in all, of all lengths.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="How often packed training repeats a round.")
    parser.add_argument("--users_per_batch", type=int, default=96)
    parser.add_argument("--targets_per_batch", type=int, nargs="+", default=[4, 8, 16, 32])
    arguments = parser.parse_args()
    world = make_world(arguments)
    collate = SequenceCollator(world.items, "all", max_history=world.model.config.max_history)
    rows = spread_sample(world.train, arguments.users)
    parts = [rows.select(range(start, len(rows), arguments.rounds)).to_list() for start in range(arguments.rounds)]
    trained = [parameter for parameter in world.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    apart = differences(world, collate(parts[0][::8]), arguments.device)
    ways = ["packed", *(f"one row a target, {size} a batch" for size in arguments.targets_per_batch)]
    times: dict[str, list[float]] = {way: [] for way in ways}
    n_targets = []
    for part in parts:
        whole = collate(part)
        for way, size in zip(ways, [0, *arguments.targets_per_batch], strict=True):
            world.model.reader.plain = size > 0
            step = arguments.users_per_batch
            batches = (
                list(one_row_a_target(whole, size))
                if size
                else [collate(part[start : start + step]) for start in range(0, len(part), step)]
            )
            for _ in range(3):  # the allocator has to get used to other shapes
                train(world, batches[:1], optimizer, arguments.device)
            # packed goes through its targets several times, for once is over too soon to time
            often = batches if size else batches * arguments.repeats
            taken = seconds(partial(train, world, often, optimizer, arguments.device), arguments.device)
            times[way].append(taken / (1 if size else arguments.repeats))
        n_targets.append(int((whole["labels"] > 0).sum()))
    per_second = {way: sum(n_targets) / sum(taken) for way, taken in times.items()}
    best = max(way for way in ways[1:] if per_second[way] == max(per_second[w] for w in ways[1:]))
    write_result(
        "training_throughput",
        arguments,
        {
            "prompt_tokens": [len(world.model.instruction_ids), len(world.model.response_ids)],
            "targets": sum(n_targets),
            "targets_per_second": per_second,
            "packed_against": {way: per_second["packed"] / per_second[way] for way in ways[1:]},
            "packed_against_each_round": {
                way: [plain / packed for plain, packed in zip(times[way], times["packed"], strict=True)]
                for way in ways[1:]
            },
            "best_of_one_row_a_target": best,
            "largest_relative_difference": apart,
        },
    )


if __name__ == "__main__":
    main()
