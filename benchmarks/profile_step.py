"""Where the time of one packed training step goes, and what the two things that it leaves out would cost.

python benchmarks/profile_step.py --dataset Beauty.txt
"""

import argparse
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
from measuring import add_arguments, make_world, packed_rows, seconds, spread_sample, write_result
from torch.profiler import ProfilerActivity, profile

from e4srec_hf.data import SequenceCollator
from e4srec_hf.training import packed_reading


def main() -> None:
    """Profile and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, layers=4, hidden_size=512)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--operations", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    world = make_world(arguments)
    model = world.model.train()
    collate = SequenceCollator(world.items, "all", max_history=model.config.max_history)
    batch = collate(spread_sample(world.train, arguments.users).to_list())
    batch = {name: tensor.to(arguments.device) for name, tensor in batch.items()}

    def step() -> None:
        model.zero_grad()
        model(**batch).loss.backward()

    step()
    cuda = torch.device(arguments.device).type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as profiled:
        step()

    def own(event: Any) -> float:
        return event.self_device_time_total if cuda else event.self_cpu_time_total

    events = sorted(profiled.key_averages(), key=own, reverse=True)
    total = sum(own(event) for event in events)

    without: dict[str, Any] = {
        "as it is": nullcontext(),
        "in one pass": patch.object(
            packed_reading, "groups_of_similar_length", lambda lengths: [torch.arange(len(lengths))]
        ),
        "last layer on all tokens": patch.object(packed_reading, "only_where_read", lambda *_: nullcontext()),
    }
    times = dict.fromkeys(without, 0.0)
    for counts in [False] + [True] * arguments.rounds:  # the first round is for warming up
        for way, other in without.items():
            with other:
                times[way] += counts * seconds(step, arguments.device)
    lengths = packed_rows(model, batch).length.tolist()
    groups = [group.tolist() for group in packed_reading.groups_of_similar_length(torch.tensor(lengths))]
    filled = sum(lengths)
    write_result(
        "profile_step",
        arguments,
        {
            "targets": int((batch["labels"] > 0).sum()),
            "share_of_time": {event.key: own(event) / total for event in events[: arguments.operations]},
            "time_of_a_step_as_it_is": {way: taken / times["as it is"] for way, taken in times.items()},
            "slots_for_one_that_is_filled": {
                "one pass, as wide as the longest row": max(lengths) * len(lengths) / filled,
                f"{len(groups)} passes over rows of similar length": sum(
                    max(lengths[row] for row in group) * len(group) for group in groups
                )
                / filled,
            },
        },
    )


if __name__ == "__main__":
    main()
