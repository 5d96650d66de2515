"""Whether a training led anywhere: its models against what is simpler, on validation, and what to change."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..data.item_tokenizer import item_token_ids
from ..evaluation import RankingReport
from ..modeling.histories import FIRST_ITEM_ID

#: An adaptive optimizer learns nothing with a higher learning rate.
HIGHEST_RATE = 0.1
#: The metric that decides, as in the selection of epochs.
METRIC = "ndcg@10"
#: Each trained model, with what it has to be better than.
SIMPLER = {"SASRec": ("popularity",), "E4SRec": ("SASRec", "popularity")}
#: The flags of each model: learning rate, epochs, batch size, dropout.
FLAGS = {
    "SASRec": ("--sasrec_learning_rate", "--sasrec_epochs", "--sasrec_batch_size", "--sasrec_dropout"),
    "E4SRec": (
        "--learning_rate",
        "--num_train_epochs",
        "--per_device_train_batch_size",
        "--lora_dropout or --base_dropout",
    ),
}


def ndcg_of_random_order(
    histories: Iterable[list[str]], tokenizer: PreTrainedTokenizerBase, *, exclude_seen: bool
) -> float:
    """NDCG@10 that an order drawn at random has in expectation, for the last item of each history.

    Args:
        histories: Raw item ids; rows whose last item is not in the catalogue are left out.
        tokenizer: The item tokenizer.
        exclude_seen: Whether the items before the last are hidden. A target among them is a miss.
    """
    gain = np.cumsum(1 / np.log2(np.arange(2, 12)))  # of the first n places together, n from 1
    n_items, found = len(tokenizer) - FIRST_ITEM_ID, []
    for items in histories:
        *history, target = item_token_ids(tokenizer, items)
        if target < FIRST_ITEM_ID:
            continue
        hidden = {token for token in history if token >= FIRST_ITEM_ID} if exclude_seen else set()
        n_shown = n_items - len(hidden)
        found.append(0.0 if target in hidden else gain[min(n_shown, 10) - 1] / n_shown)
    return float(np.mean(found))


def shortfalls(
    reports: Mapping[str, RankingReport],
    facts: Mapping[str, Mapping[str, Any]],
    *,
    of_random_order: float,
    n_items: int,
    unranked: Collection[str] = (),
) -> dict[str, str]:
    """What went wrong with each model, in one line: its figures, the likely cause, and what to change.

    A model is below a simpler one if it is below its 95% interval. Inside of it, it is not told apart from it, and
    there is nothing to advise.

    Args:
        reports: Name to report on validation: ``popularity``, ``SASRec``, ``E4SRec``, those that there are.
        facts: Name of a model that was trained to its entry in ``training.json``, with ``projection_init`` where it is
            known. What is not in it is unknown.
        of_random_order: [`ndcg_of_random_order`] of the same targets.
        n_items: Size of the catalogue.
        unranked: Names of the models that have no report, because their scores are NaN.

    Returns:
        Name of a model to its line; no entry for a model with which nothing is wrong.
    """
    found = {}
    protocol = next(iter(reports.values())).protocol
    for name in (name for name in SIMPLER if name in reports or name in unranked):
        training = facts.get(name)
        better = _better(name, reports)
        below = [other for other in better if _value(reports[name]) < reports[other].metrics[METRIC].low]
        level = [other for other in better if other not in below]
        problems = [f"is below {' and '.join(below)}"] if below else []
        if level:
            problems.append(f"is not above {' and '.join(level)}, nor told apart from {'them' if level[1:] else 'it'}")
        if name in unranked:
            problems.append("has scores that are NaN and cannot be ranked")
        elif reports[name].metrics[METRIC].low <= of_random_order:
            problems.append(f"cannot be told from a random order ({of_random_order:.4f})")
        if training is not None and (broken := training.get("not_finite")) is not None:
            problems.append(f"had a loss that is not a number up to step {broken:,}")
        if problems:
            shown = [name, *better] if name in reports else list(reports)
            figures = ", ".join(f"{label} {_figures(reports[label])}" for label in shown)
            if training is None:
                advice = "It was not trained in this run: does --item_embeddings name a model of this data set?"
            elif level and len(problems) == 1:
                advice = "Chance explains the difference: another seed may turn it."
            else:
                advice = _advice(name, training, n_items, is_nan=name in unranked)
            found[name] = f"{name} {', and '.join(problems)}, on validation. NDCG@10: {figures}; {protocol}. {advice}"
    return found


def _better(name: str, reports: Mapping[str, RankingReport]) -> list[str]:
    """The simpler models that are above a model."""
    return [
        other
        for other in SIMPLER[name]
        if name in reports and other in reports and _value(reports[other]) > _value(reports[name])
    ]


def _value(report: RankingReport) -> float:
    return report.metrics[METRIC].value


def _figures(report: RankingReport) -> str:
    ndcg, hr = report.metrics[METRIC], report.metrics["hr@10"]
    return f"{ndcg.value:.4f} [{ndcg.low:.4f}, {ndcg.high:.4f}] (HR@10 {hr.value:.4f})"


def _advice(name: str, training: Mapping[str, Any], n_items: int, *, is_nan: bool) -> str:
    """The likely cause, and the flags that change it."""
    rate, epochs, batch, dropout = FLAGS[name]
    steps, highest, curve = (training.get(fact) for fact in ("steps", "learning_rate", "curve"))
    made = ""
    if steps is not None and highest is not None:
        made = f"It made {steps:,} step{'s' * (steps != 1)} with a learning rate of at most {highest:g}. "
    losses = [entry["loss"] for entry in curve or () if "loss" in entry]
    on_validation = [entry[METRIC] for entry in curve or () if METRIC in entry]
    # one that knows nothing has a loss of log(n_items), or somewhat more before it has learned that
    diverged = bool(losses) and losses[-1] > min(1.05 * losses[0], 1.5 * math.log(n_items))
    if is_nan or training.get("not_finite") is not None or diverged:
        return f"{made}Its loss did not fall: the rate is probably too high. Lower {rate}."
    if highest is not None and highest > HIGHEST_RATE:
        return f"{made}Such a rate trains no model of this kind. Lower {rate}."
    if on_validation and on_validation[-1] < 0.9 * max(on_validation):
        return f"{made}It fell behind its best epoch: it overfits or learns too fast. Lower {rate}, or raise {dropout}."
    start = ", or start with --projection_init fitted" if training.get("projection_init") == "random" else ""
    if on_validation and on_validation[-1] < max(on_validation):
        return f"{made}Its best epoch was not the last, so more of them will not help. Change {rate}{start}."
    return (
        f"{made}Its steps were probably too few, or too small. Raise {rate} or {epochs}, or lower {batch} for more "
        f"steps{start}."
    )
