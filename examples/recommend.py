"""Recommend the next items after a history, with a saved model from a folder or the Hub.

python examples/recommend.py outputs/demo --history B0221 B0434 --top_k 5
"""

import argparse
import math

import torch
from transformers import AutoModel, AutoTokenizer

import e4srec_hf  # noqa: F401 - registers the models, so that no remote code is needed
from e4srec_hf.data import tokenize_histories
from e4srec_hf.hub import item_titles


def main() -> None:
    """Print a line an item: its place, score, raw id and, where the model brings titles, title."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Folder or Hub id.")
    parser.add_argument("--base_model", help="Another base than the recorded one: folder or Hub id.")
    parser.add_argument("--history", nargs="*", required=True, help="Raw item ids, the oldest first.")
    parser.add_argument("--top_k", type=int, help="By default 10, or the whole catalogue where it is smaller.")
    parser.add_argument("--include_seen", action="store_true", help="Allow items of the history.")
    parser.add_argument(
        "--unknown", choices=["error", "unk"], default="error", help="Refuse unknown ids, or pass over."
    )
    arguments = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    batch = tokenize_histories(tokenizer, [arguments.history], on_unknown=arguments.unknown)
    base = {} if arguments.base_model is None else {"base_model": arguments.base_model}
    model = AutoModel.from_pretrained(arguments.model, **base)
    if torch.cuda.is_available():
        model = model.to("cuda")
    titles = item_titles(arguments.model)
    best = model.recommend(
        **batch.to(model.get_input_embeddings().weight.device),
        top_k=min(10, len(tokenizer) - 2) if arguments.top_k is None else arguments.top_k,
        exclude_seen=not arguments.include_seen,
    )
    items = tokenizer.convert_ids_to_tokens(best.item_ids[0].tolist())
    for place, (item, score) in enumerate(zip(items, best.scores[0].tolist(), strict=True), start=1):
        if score == -math.inf:  # no more items to recommend
            break
        print(f"{place:3}. {score:8.3f}  {item}  {titles.get(item, '')}".rstrip())


if __name__ == "__main__":
    main()
