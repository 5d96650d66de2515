"""Evaluation of a saved model on a data set, beside popularity."""

import os

import torch

from ..data import TrainingData, item_catalogue, with_sampled_negatives
from ..data.saved_models import load_saved_model, load_saved_tokenizer
from ..data.splits import LEAVE_ONE_OUT
from .popularity import PopularityModel
from .protocols import REFERENCE_PROTOCOL, protocol_of
from .ranking import evaluate_ranking
from .reports import RankingReport


def evaluate_saved_model(
    source: str | os.PathLike[str],
    data: TrainingData,
    *,
    split: str = "test",
    negatives: str | None = None,
    negatives_seed: int = 0,
    protocol: str = "strict",
    exclude_seen: bool | None = None,
    batch_size: int = 128,
    device: str | None = None,
    base_model: str | None = None,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
) -> dict[str, RankingReport]:
    """Rank the targets of a split with a saved model and with popularity, which counts the training sequences.

    Args:
        source: Folder or Hub id of an E4SRec or SASRec model.
        data: The data set.
        split: ``validation`` or ``test``.
        negatives: Rank among sampled negatives instead of the whole catalogue: a file, or how many to draw.
        negatives_seed: Seed of drawn negatives.
        protocol: ``"strict"`` or ``"reference"``, see [`Protocol`]. The second needs a leave-one-out split.
        exclude_seen: Whether items of the history are left out of the ranking; by default as the protocol has it.
        batch_size: Users per batch.
        device: Where to rank; by default the GPU if there is one.
        base_model: Another base than the recorded one.
        load_in_4bit: Quantize the base to 4 bits.
        load_in_8bit: Quantize the base to 8 bits.

    Returns:
        ``popularity`` and ``source``, each with its report.

    Raises:
        OSError: If the model or its base cannot be found.
        ValueError: If the folder holds no model, the negatives cannot be read, or the protocol does not fit.
    """
    name = os.fspath(source)
    rules, targets = protocol_of(protocol), data.splits[split]
    if rules is REFERENCE_PROTOCOL and data.facts["split"]["kind"] != LEAVE_ONE_OUT["kind"]:
        raise ValueError(
            f"The reference splits leave-one-out, but this data is split {data.facts['split']['kind']}: its protocol "
            "does not fit."
        )
    tokenizer = load_saved_tokenizer(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_saved_model(
        name, tokenizer, base_model=base_model, load_in_4bit=load_in_4bit, load_in_8bit=load_in_8bit, device=device
    )
    retired_items = model.config.retired_items
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
        label: evaluate_ranking(
            ranker,
            targets,
            tokenizer,
            exclude_seen=exclude_seen,
            batch_size=batch_size,
            protocol=protocol,
            without_target=data.facts["users"] - len(targets) if rules.counts_everyone else 0,
        )
        for label, ranker in (("popularity", popularity), (name, model))
    }
