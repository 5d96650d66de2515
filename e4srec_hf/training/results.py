"""What follows a training: targets ranked by the model and the baselines, and the figures saved beside it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..cards.callback import load_facts, refresh_model_card
from ..data import item_catalogue, tokenize_histories, with_sampled_negatives
from ..data.item_vectors import is_sasrec
from ..data.opening import TrainingData
from ..evaluation import PopularityModel, RankingReport, evaluate_ranking, popularity_skew, results_table, save_reports
from ..evaluation.ranking import NaNScoresError
from ..files import SAMPLE_NAME, TITLES_NAME, write_json
from ..modeling import E4SRecModel, SASRecModel
from .arguments import DataArguments
from .outcome import ndcg_of_random_order, shortfalls
from .progress import heading, say

#: A model, and the item tokenizer whose tokens it reads.
Ranker = tuple[Any, PreTrainedTokenizerBase]
#: Kind of ranking (``full``, ``sampled``) to name of the model to report.
Reports = dict[str, dict[str, RankingReport]]


def targets_to_rank(
    data: DataArguments, dataset: TrainingData, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Dataset]:
    """The test targets by kind of ranking; none if they are not to be ranked."""
    if not data.rank_test:
        return {}
    tests = {"full": dataset.test}
    if data.negatives is not None:
        tests["sampled"] = with_sampled_negatives(
            dataset.test,
            data.negatives,
            sequences=dataset.sequences,
            items=item_catalogue(tokenizer),
            seed=data.negatives_seed,
        )
    return tests


def baselines(
    item_vectors: str, train: Dataset, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> dict[str, Ranker]:
    """Popularity, and SASRec if the item vectors are those of one."""
    rankers: dict[str, Ranker] = {"popularity": (PopularityModel(train["item_ids"], tokenizer).to(device), tokenizer)}
    if is_sasrec(item_vectors):
        rankers["SASRec"] = (
            SASRecModel.from_pretrained(item_vectors).to(device),
            AutoTokenizer.from_pretrained(item_vectors),
        )
    return rankers


def rank(
    rankers: Mapping[str, Ranker], targets_by_kind: Mapping[str, Dataset], *, exclude_seen: bool, batch_size: int
) -> tuple[Reports, set[str]]:
    """Rank targets with every model.

    Returns:
        The reports, and the names of the models that have none, because their scores are NaN.
    """
    reports: Reports = {kind: {} for kind in targets_by_kind}
    unranked = set()
    for kind, targets in targets_by_kind.items():
        for name, (ranker, items) in rankers.items():
            try:
                reports[kind][name] = evaluate_ranking(
                    ranker, targets, items, exclude_seen=exclude_seen, batch_size=batch_size
                )
            except NaNScoresError:
                unranked.add(name)
    return reports, unranked


def what_went_wrong(
    reports: Mapping[str, RankingReport],
    validation: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    folders: Mapping[str, Path],
    unranked: Collection[str] = (),
) -> dict[str, str]:
    """Name of a model to what is wrong with it, from its report on validation and the facts in its folder.

    Facts that an older version did not write, or that were removed, are unknown.
    """
    facts = {name: _facts_of(folder, name) for name, folder in folders.items()}
    exclude_seen = reports["popularity"].exclude_seen
    of_random_order = ndcg_of_random_order(validation["item_ids"], tokenizer, exclude_seen=exclude_seen)
    n_items = len(item_catalogue(tokenizer))
    return shortfalls(reports, facts, of_random_order=of_random_order, n_items=n_items, unranked=unranked)


def _facts_of(folder: Path, name: str) -> dict[str, Any]:
    """What is known of a model's training, with how its projection started."""
    facts = load_facts(folder)
    start = facts.get("settings", {}).get("projection_init")
    return {**facts.get("stages", {}).get(name, {}), "projection_init": start}


def save_results(
    folders: Mapping[str, Path],
    reports: Reports,
    rankers: Mapping[str, Ranker],
    dataset: TrainingData,
    tokenizer: PreTrainedTokenizerBase,
    *,
    validation: Mapping[str, RankingReport],
    wrong: Mapping[str, str],
) -> None:
    """Add to the folders of the models: figures, how far the models lean towards popular items, titles and the card."""
    skew = None
    if reports:
        models = {name: ranker for name, ranker in rankers.items() if name != "popularity"}
        exclude_seen = validation["popularity"].exclude_seen
        skew = popularity_skew(models, dataset.train, dataset.test, tokenizer, exclude_seen=exclude_seen)
    for name, folder in folders.items():
        warnings = [line for model, line in wrong.items() if name in ("E4SRec", model)]
        save_reports(reports, folder, popularity_skew=skew, validation=validation, warnings=warnings)
        if dataset.titles:
            write_json(folder / TITLES_NAME, dataset.titles)
        refresh_model_card(folder)


def show_results(reports: Reports) -> None:
    """Print a table for each kind of ranking."""
    if reports:
        heading("Test")
    for table in reports.values():
        say(f"\nTest targets, {table['popularity'].protocol}; 95% bootstrap intervals over users\n")
        say(results_table(table))
        if remark := table["popularity"].remark:
            say(f"\n{remark}")


def save_sample(
    model: E4SRecModel,
    tokenizer: PreTrainedTokenizerBase,
    user: Mapping[str, Any],
    titles: Mapping[str, str],
    folder: str | Path,
) -> None:
    """Print ten recommendations for a made-up user, and save them with the history that they follow."""
    batch = tokenize_histories(tokenizer, [user["item_ids"]])
    best = model.recommend(**batch.to(model.item_embeddings.weight.device))
    items = tokenizer.convert_ids_to_tokens(best.item_ids[0].tolist())
    say(f"\nTen recommendations for {user['user_id']}, who last had {titles[user['item_ids'][-1]]}:")
    for place, item in enumerate(items, start=1):
        say(f"{place:3}. {item}  {titles[item]}")
    write_json(Path(folder, SAMPLE_NAME), {"history": user["item_ids"], "recommended": items})
