"""Which vectors know best what items are alike: those of the items, or those of the head.

    e4srec train --dataset demo --head linear --output_dir outputs/demo-linear
    python benchmarks/similar_items.py outputs/demo-linear --dataset demo

The last two items of a user are the validation and the test target: no model was trained on that pair. One of them is
looked up, and the other one should be among its neighbours. Where titles name a series ("…, Book 3: …"), the other
figure is the share of neighbours of the same series, among as many as there are other books in it.
"""

import argparse
from typing import Any

from measuring import RESULTS, write_result

from e4srec_hf.data import load_training_data
from e4srec_hf.serving import Recommender, similar_items


def series_of(title: str) -> str:
    """What stands before the number of the book; empty if there is none."""
    name, number, _ = title.partition(", Book ")
    return name if number else ""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Folder of a model.")
    parser.add_argument("--dataset", required=True, help="What it was trained on, as for e4srec train.")
    parser.add_argument("--top_k", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    arguments = parser.parse_args()
    data = load_training_data(arguments.dataset)
    recommender = Recommender.load(arguments.model, device=arguments.device)
    series: dict[str, set[str]] = {}
    for item, title in data.titles.items():
        if name := series_of(title):
            series.setdefault(name, set()).add(item)
    pairs = [items[-2:] for items in data.test["item_ids"] if len(items) >= 2]
    figures: dict[str, Any] = {"catalogue": len(data.items), "pairs": len(pairs)}
    for by in ("items", "head"):
        near = {
            item: [found.item for found in similar_items(recommender, item, by=by, top_k=arguments.top_k)]
            for item in data.items
        }
        hits = [(second in near[first]) + (first in near[second]) for first, second in pairs]
        figures[by] = {"held_out_pair_among_neighbours": sum(hits) / (2 * len(pairs))}
        if series:
            shares = [
                len((books - {item}).intersection(near[item][: len(books) - 1])) / min(len(books) - 1, arguments.top_k)
                for books in series.values()
                for item in books
                if len(books) > 1
            ]
            figures[by]["neighbours_of_the_same_series"] = sum(shares) / len(shares)
    arguments.model = recommender.model.config.model_type
    write_result(f"similar_items-{data.facts.get('name', 'data')}", arguments, figures)


if __name__ == "__main__":
    main()
