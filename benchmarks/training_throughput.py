"""Targets a second of packed training against one row for each target, and how far their numbers are apart.

    python benchmarks/training_throughput.py --dataset Beauty.txt
    python benchmarks/training_throughput.py --dataset Beauty.txt --base-model gemma-3-270m --targets_per_batch 16

Both ways train the same model on the same targets with AdamW. They take turns, so that each is measured right after
the other; the first round is for warming up. One row for each target is what the reference code does: the whole prompt
and the history before the target, so many targets a batch.
"""

import argparse
import itertools
from collections.abc import Iterator
from functools import partial
from statistics import fmean
from typing import Any

import torch
from measuring import World, add_arguments, make_world, seconds, shape_of, spread_sample, write_result
from torch import Tensor

from e4srec_hf.data import SequenceCollator
from e4srec_hf.training.packed_reading import ReferenceReader

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


def name_of(size: int) -> str:
    """What the result calls a way."""
    return f"one row a target, {size} a batch"


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
    for reader in (world.model.reader, ReferenceReader()):
        world.model.reader = reader
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
        "gradients": max(apart(gradients[name], gradient) for name, gradient in expected.items()),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, layers=4, hidden_size=512)
    parser.add_argument("--users", type=int, default=192, help="Users in all, of all lengths.")
    parser.add_argument("--rounds", type=int, default=3, help="The users are dealt out to so many rounds.")
    parser.add_argument("--users_per_batch", type=int, default=64)
    parser.add_argument("--targets_per_batch", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument(
        "--plain_batches", type=int, help="At most so many batches of one row a target; all by default."
    )
    arguments = parser.parse_args()
    world = make_world(arguments)
    collate = SequenceCollator(world.items, "all", max_history=world.model.config.max_history)
    rows = spread_sample(world.train, arguments.users)
    parts = [rows.select(range(start, len(rows), arguments.rounds)).to_list() for start in range(arguments.rounds)]
    trained = [parameter for parameter in world.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    packing = world.model.reader
    apart = differences(world, collate(parts[0][::8]), arguments.device)
    #: Seconds a target, packed and one row a target, of each round.
    times: dict[int, list[tuple[float, float]]] = {size: [] for size in arguments.targets_per_batch}
    n_targets = []
    for part in [parts[0], *parts]:
        whole, step = collate(part), arguments.users_per_batch
        packed = [collate(part[start : start + step]) for start in range(0, len(part), step)]
        for size in times:
            taken = []
            plain = list(itertools.islice(one_row_a_target(whole, size), arguments.plain_batches))
            for reader, batches in ((packing, packed), (ReferenceReader(), plain)):
                world.model.reader = reader
                spent = seconds(partial(train, world, batches, optimizer, arguments.device), arguments.device)
                taken.append(spent / sum(int((batch["labels"] > 0).sum()) for batch in batches))
            times[size].append((taken[0], taken[1]))
        n_targets.append(int((whole["labels"] > 0).sum()))
    measured = {size: pairs[1:] for size, pairs in times.items()}
    seconds_packed = {size: fmean(packed for packed, _ in pairs) for size, pairs in measured.items()}
    seconds_plain = {size: fmean(plain for _, plain in pairs) for size, pairs in measured.items()}
    per_second = {"packed": 1 / fmean(seconds_packed.values())}
    per_second |= {name_of(size): 1 / taken for size, taken in seconds_plain.items()}
    best = min(seconds_plain, key=lambda size: seconds_plain[size])
    write_result(
        "training_throughput" + shape_of(arguments, "4x512"),
        arguments,
        {
            "prompt_tokens": [len(world.model.instruction_ids), len(world.model.response_ids)],
            "targets": sum(n_targets[1:]),
            "targets_per_second": per_second,
            "packed_against": {name_of(size): seconds_plain[size] / seconds_packed[size] for size in measured},
            "packed_against_each_round": {
                name_of(size): [plain / packed for packed, plain in pairs] for size, pairs in measured.items()
            },
            "best_of_one_row_a_target": name_of(best),
            "largest_relative_difference": apart,
        },
    )


if __name__ == "__main__":
    main()
