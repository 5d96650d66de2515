"""Rank test targets with a saved model, an E4SRec adapter or a SASRec, from a folder or the Hub.

python examples/evaluate.py outputs/e4srec --dataset Beauty.txt --negatives 99
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

import e4srec_hf  # noqa: F401 - registers the models, so that no remote code is needed
from e4srec_hf.data import item_catalogue, make_demo_world, with_sampled_negatives
from e4srec_hf.data.opening import from_sequences, load_training_data
from e4srec_hf.evaluation.popularity import PopularityModel
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.evaluation.reports import results_table


def main() -> None:
    """Evaluate, print a table, and all figures as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Folder or Hub id.")
    parser.add_argument("--base_model", help="Another base than the recorded one: folder or Hub id.")
    parser.add_argument("--dataset", required=True, help='As for train.py; "demo" is the made-up world.')
    parser.add_argument("--user_column", default="user_id")
    parser.add_argument("--items_column", default="item_ids")
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    parser.add_argument("--negatives", help="Rank among sampled negatives: a file, or how many to draw.")
    parser.add_argument("--negatives_seed", type=int, default=0, help="Seed of the drawn negatives.")
    parser.add_argument("--include_seen", action="store_true", help="Keep the items of the history in the ranking.")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--device", help="By default the GPU where there is one.")
    parser.add_argument("--json", action="store_true", help="Print every metric as JSON too.")
    arguments = parser.parse_args()
    if (Path(arguments.model) / "sasrec").is_dir() and not (Path(arguments.model) / "config.json").exists():
        parser.error(f"{arguments.model} holds no model itself: evaluate {Path(arguments.model) / 'sasrec'}")

    if arguments.dataset == "demo":
        data = from_sequences(make_demo_world().sequences, "demo", "the demo, made on the spot")
    else:
        data = load_training_data(
            arguments.dataset, user_column=arguments.user_column, items_column=arguments.items_column
        )
    print(f"{arguments.dataset}: {data.kind}")
    dataset = data.splits[arguments.split]
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, trust_remote_code=False)
    base = {} if arguments.base_model is None else {"base_model": arguments.base_model}
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModel.from_pretrained(arguments.model, trust_remote_code=False, **base).to(device)
    retired_items = model.config.retired_items
    if arguments.negatives is not None:
        dataset = with_sampled_negatives(
            dataset,
            arguments.negatives,
            sequences=data.sequences,
            items=item_catalogue(tokenizer, retired_items=retired_items),
            seed=arguments.negatives_seed,
        )
    popularity = PopularityModel(data.train["item_ids"], tokenizer, retired_items).to(device)
    reports = {
        name: evaluate_ranking(
            ranker,
            dataset,
            tokenizer,
            exclude_seen=not arguments.include_seen,
            batch_size=arguments.batch_size,
        )
        for name, ranker in (
            ("popularity", popularity),
            (arguments.model, model),
        )
    }
    print(f"{arguments.split} targets, {reports[arguments.model].protocol}; 95% bootstrap intervals over users\n")
    print(results_table(reports, ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")))
    if arguments.json:
        print(json.dumps({name: report.to_dict() for name, report in reports.items()}, indent=1))


if __name__ == "__main__":
    main()
