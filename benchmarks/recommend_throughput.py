"""Users a second of `recommend` in batches, against one user at a time without a kept instruction.

    python benchmarks/recommend_throughput.py --dataset Beauty.txt

One user at a time is what the reference code does: the whole prompt again for each. The base has the shape of the one
in examples/configs/beauty.yaml; ``--layers`` and ``--hidden_size`` take another.
"""

import argparse

import torch
from measuring import add_arguments, make_world, seconds, spread_sample, write_result

from e4srec_hf.data import tokenize_histories


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
        model.merge_adapter()
    rows = spread_sample(world.test, arguments.users)
    histories = [items[:-1] for items in rows["item_ids"]]
    some = list(range(0, len(histories), max(len(histories) // arguments.alone, 1)))
    batch = tokenize_histories(world.items, histories).to(arguments.device)
    singles = [tokenize_histories(world.items, [histories[row]]).to(arguments.device) for row in some]

    def together() -> None:
        model.reader.plain = False
        found["together"] = model.recommend(**batch, batch_size=arguments.batch_size)

    def alone(plain: bool) -> None:
        model.reader.plain = plain
        found[f"alone {plain}"] = [model.recommend(**single) for single in singles]

    found: dict = {}
    together()
    alone(True)
    times: dict[str, list[float]] = {"in batches": [], "alone": [], "alone, instruction kept": []}
    for _ in range(arguments.rounds):
        times["in batches"].append(seconds(together, arguments.device) / len(histories))
        times["alone"].append(seconds(lambda: alone(True), arguments.device) / len(some))
        times["alone, instruction kept"].append(seconds(lambda: alone(False), arguments.device) / len(some))
    best = found["together"]
    ids = torch.cat([one.item_ids for one in found["alone True"]])
    scores = torch.cat([one.scores for one in found["alone True"]])
    per_second = {way: len(taken) / sum(taken) for way, taken in times.items()}
    write_result(
        "recommend_throughput" + ("" if (arguments.layers, arguments.hidden_size) == (2, 128) else "-larger"),
        arguments,
        {
            "prompt_tokens": [len(model.instruction_ids), len(model.response_ids)],
            "users_per_second": per_second,
            "in_batches_against": {way: per_second["in batches"] / per_second[way] for way in list(times)[1:]},
            "in_batches_against_each_round": {
                way: [slow / fast for slow, fast in zip(times[way], times["in batches"], strict=True)]
                for way in list(times)[1:]
            },
            "users_compared": len(some),
            "users_with_identical_recommendations": int((ids == best.item_ids[some]).all(dim=1).sum()),
            "largest_difference_of_scores": float((scores - best.scores[some]).abs().max() / scores.abs().max()),
        },
    )


if __name__ == "__main__":
    main()
