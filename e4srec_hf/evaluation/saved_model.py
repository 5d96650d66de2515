"""Evaluation of a saved model on a data set, beside popularity."""

import os

import torch
from transformers import AutoModel, AutoTokenizer

from ..data import TrainingData, item_catalogue, with_sampled_negatives
from .popularity import PopularityModel
from .ranking import evaluate_ranking
from .reports import RankingReport


def evaluate_saved_model(
    source: str | os.PathLike[str],
    data: TrainingData,
    *,
    split: str = "test",
    negatives: str | None = None,
    negatives_seed: int = 0,
    exclude_seen: bool = True,
    batch_size: int = 128,
    device: str | None = None,
    base_model: str | None = None,
) -> dict[str, RankingReport]:
    """Rank the targets of a split with a saved model and with popularity, which counts the training sequences.

    Args:
        source: Folder or Hub id of an E4SRec or SASRec model.
        data: The data set.
        split: ``validation`` or ``test``.
        negatives: Rank among sampled negatives instead of the whole catalogue: a file, or how many to draw.
        negatives_seed: Seed of drawn negatives.
        exclude_seen: Whether items of the history are left out of the ranking.
        batch_size: Users per batch.
        device: Where to rank; by default the GPU if there is one.
        base_model: Another base than the recorded one.

    Returns:
        ``popularity`` and ``source``, each with its report.

    Raises:
        OSError: If the model or its base cannot be found.
        ValueError: If the folder holds no model, or the negatives cannot be read.
    """
    name = os.fspath(source)
    beside = os.path.join(name, "sasrec")
    if os.path.isdir(beside) and not os.path.exists(os.path.join(name, "config.json")):
        raise ValueError(f"{name} holds no model itself: evaluate {beside}")
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    base = {} if base_model is None else {"base_model": base_model}
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModel.from_pretrained(name, trust_remote_code=False, **base).to(device)
    retired_items = model.config.retired_items
    targets = data.splits[split]
    if negatives is not None:
        targets = with_sampled_negatives(
            targets,
            negatives,
            sequences=data.sequences,
            items=item_catalogue(tokenizer, retired_items=retired_items),
            seed=negatives_seed,
        )
    popularity = PopularityModel(data.train["item_ids"], tokenizer, retired_items).to(device)
    return {
        label: evaluate_ranking(ranker, targets, tokenizer, exclude_seen=exclude_seen, batch_size=batch_size)
        for label, ranker in (("popularity", popularity), (name, model))
    }
