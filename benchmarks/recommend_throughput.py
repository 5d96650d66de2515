"""Users a second of `recommend` in batches, against one user at a time without a kept instruction.

    python benchmarks/recommend_throughput.py --dataset Beauty.txt
    python benchmarks/recommend_throughput.py --dataset Beauty.txt --base-model gemma-3-270m --users 512 --alone 32

One user at a time is what the reference code does: the whole prompt again for each. The base has the shape of the one
in examples/configs/beauty.yaml; ``--layers`` and ``--hidden_size`` take another, ``--base-model`` a pretrained one. The
cost of a recommendation is also told in forward passes of the base alone, without LoRA, over as many tokens.
"""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from measuring import add_arguments, make_world, seconds, shape_of, spread_sample, write_result

from e4srec_hf.data import tokenize_histories
from e4srec_hf.modeling.reading import PlainReader
from e4srec_hf.serving import merge_adapter
from e4srec_hf.training.packed_reading import ReferenceReader

BASE_ALONE = "base alone, one forward pass a user"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, layers=2, hidden_size=128)
    parser.add_argument("--users", type=int, default=4096, help="Users in all, of all lengths.")
    parser.add_argument("--alone", type=int, default=256, help="How many of them one at a time.")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--merge", action="store_true", help="Fold the LoRA into the base first, for both.")
    arguments = parser.parse_args()
    world = make_world(arguments)
    model = world.model.eval()
    if arguments.merge:
        merge_adapter(model)
    rows = spread_sample(world.test, arguments.users)
    histories = [items[:-1] for items in rows["item_ids"]]
    some = list(range(0, len(histories), max(len(histories) // arguments.alone, 1)))
    batch = tokenize_histories(world.items, histories).to(arguments.device)
    singles = [tokenize_histories(world.items, [histories[row]]).to(arguments.device) for row in some]

    readers = {False: PlainReader(), True: ReferenceReader()}

    def together(plain: bool) -> None:
        model.reader = readers[plain]
        found["together"] = model.recommend(**batch, batch_size=arguments.batch_size)

    def alone(plain: bool) -> None:
        model.reader = readers[plain]
        with nullcontext() if plain else model.kept_instruction():
            found["alone"] = [model.recommend(**single) for single in singles]

    prompt = len(model.instruction_ids) + len(model.response_ids)
    tokens = [prompt + int(single["attention_mask"][:, -model.config.max_history :].sum()) for single in singles]
    read = [torch.randn(1, length, arguments.hidden_size, device=arguments.device) for length in tokens]

    @torch.no_grad()
    def base_alone(plain: bool) -> None:
        for vectors in read:
            world.base(inputs_embeds=vectors, use_cache=False)

    found: dict[str, Any] = {}
    ways: dict[str, tuple[Callable[[bool], None], bool, int]] = {
        "in batches": (together, False, len(histories)),
        "in batches, instruction read for each": (together, True, len(histories)),
        "alone, instruction kept": (alone, False, len(some)),
        "alone": (alone, True, len(some)),
        BASE_ALONE: (base_alone, True, len(some)),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + arguments.rounds):
        for way, (recommend, plain, users) in ways.items():
            times[way].append(seconds(partial(recommend, plain), arguments.device) / users)
            if way == "in batches":
                best = found["together"]
    times = {way: taken[1:] for way, taken in times.items()}  # the first round is for warming up
    ids = torch.cat([one.item_ids for one in found["alone"]])
    scores = torch.cat([one.scores for one in found["alone"]])
    per_second = {way: len(taken) / sum(taken) for way, taken in times.items()}
    write_result(
        "recommend_throughput" + shape_of(arguments, "2x128"),
        arguments,
        {
            "prompt_tokens": [len(model.instruction_ids), len(model.response_ids)],
            "users_per_second": per_second,
            "in_batches_against": {way: per_second["in batches"] / per_second[way] for way in list(times)[1:-1]},
            "forward_passes_of_the_base": {way: per_second[BASE_ALONE] / per_second[way] for way in list(times)[:-1]},
            "in_batches_against_each_round": {
                way: [slow / fast for slow, fast in zip(times[way], times["in batches"], strict=True)]
                for way in list(times)[1:-1]
            },
            "users_compared": len(some),
            "users_with_identical_recommendations": int((ids == best.item_ids[some]).all(dim=1).sum()),
            "largest_difference_of_scores": float((scores - best.scores[some]).abs().max() / scores.abs().max()),
        },
    )


if __name__ == "__main__":
    main()
