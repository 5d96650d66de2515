"""Data sets without some of their items, models of the others, and who turns to the items that were left out."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase, TrainingArguments

from e4srec_hf import SASRecModel
from e4srec_hf.data import build_item_tokenizer, tokenize_histories
from e4srec_hf.data.opening import TrainingData, from_sequences
from e4srec_hf.data.prepared import load_items, load_split
from e4srec_hf.data.sequences import SEQUENCE_FEATURES
from e4srec_hf.modeling.histories import FIRST_ITEM_ID
from e4srec_hf.training.arguments import DataArguments, SASRecArguments
from e4srec_hf.training.sasrec import train_sasrec
from e4srec_hf.training.trainer import SELECT_ON_VALIDATION

MAX_HISTORY = 50
SASREC = SASRecArguments(sasrec_batch_size=32, sasrec_epochs=5, sasrec_learning_rate=2e-3)


class Turn(NamedTuple):
    """A user turns to an item that was taken out."""

    history: list[str]  # what the user had before of the other items
    seen: list[str]  # and of those that were taken out
    target: str


class World(NamedTuple):
    """A data set without some items, and a model of the others."""

    data: TrainingData
    model: SASRecModel
    tokenizer: PreTrainedTokenizerBase
    titles: dict[str, str]
    cold: list[str]
    turns: list[Turn]
    items: list[str]  # the catalogue, then those that were taken out


def hold_out(titles: dict[str, str | None], seed: int | None) -> list[str]:
    """A tenth of the items that have a title. Those without a seed are for selection, and in no other draw."""
    items = [item for item, title in titles.items() if title]
    order = np.random.default_rng(12345).permutation(len(items))
    count = len(items) // 10
    drawn = order[:count] if seed is None else np.random.default_rng(seed).choice(order[count:], count, replace=False)
    return [items[place] for place in sorted(drawn)]


def without(sequences: Dataset, cold: list[str], name: str) -> TrainingData:
    """The data set without some items, split leave-one-out."""
    left_out = set(cold)
    rows = [
        {"user_id": row["user_id"], "item_ids": left}
        for row in sequences
        if len(left := [item for item in row["item_ids"] if item not in left_out]) >= 3
    ]
    return from_sequences(Dataset.from_list(rows, features=SEQUENCE_FEATURES), name, "without the items held out")


def trained_without(data: TrainingData, cache: Path) -> Path:
    """The folder of a SASRec that was trained on a data set; one of the same data and settings is used again."""
    content = [data.facts["sha256"], vars(SASREC), MAX_HISTORY]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"{data.facts['name']}-{key}"
    if not (folder / "sasrec" / "model.safetensors").is_file():
        training = TrainingArguments(
            str(folder),
            seed=0,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            per_device_eval_batch_size=128,
            logging_strategy="epoch",
            lr_scheduler_type="cosine",
            restore_callback_states_from_checkpoint=True,
            **SELECT_ON_VALIDATION,
        )
        tokenizer = build_item_tokenizer(data.items)
        train_sasrec(SASREC, training, DataArguments(all_targets=True), data, tokenizer, max_history=MAX_HISTORY)
    return folder / "sasrec"


def turns_of(sequences: Dataset, cold: list[str]) -> list[Turn]:
    """Every time that a user turns to a held-out item after an item of the catalogue, the first time for each."""
    left_out, turns = set(cold), []
    for items in sequences["item_ids"]:
        history: list[str] = []
        seen: list[str] = []
        for item in items:
            if item not in left_out:
                history.append(item)
            elif item not in seen:
                if history:
                    turns.append(Turn(history[-MAX_HISTORY:], [*set(history), *seen], item))
                seen.append(item)
    return turns


def make_world(source: Path, seed: int | None, cache: Path) -> World:
    """Take items out, and train on the others."""
    titles = load_items(source)
    cold = hold_out(titles, seed)
    sequences = load_split(source, "", "train")
    data = without(sequences, cold, source.name)
    folder = trained_without(data, cache)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    items = [*tokenizer.convert_ids_to_tokens(list(range(FIRST_ITEM_ID, len(tokenizer)))), *cold]
    known = {item: title for item, title in titles.items() if title}
    model = AutoModel.from_pretrained(folder)
    return World(data, model, tokenizer, known, cold, turns_of(sequences, cold), items)


@torch.no_grad()
def user_vectors(model: SASRecModel, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> Tensor:
    """``(turns, width)``."""
    found = []
    for start in range(0, len(turns), 512):
        batch = tokenize_histories(tokenizer, [turn.history for turn in turns[start : start + 512]])
        found.append(model.history_vectors(*model.known_histories(batch["input_ids"], batch["attention_mask"])))
    return torch.cat(found)


def ranks_of(world: World, scores: Tensor) -> dict[str, NDArray[np.float64]]:
    """Ranks of the targets by ``(turns, items)`` scores, what was seen hidden; a tie counts against the target."""
    place = {item: column for column, item in enumerate(world.items)}
    scores = scores.clone()
    own = scores[torch.arange(len(scores)), [place[turn.target] for turn in world.turns]]
    for row, turn in enumerate(world.turns):
        scores[row, [place[item] for item in turn.seen]] = -torch.inf
    ahead = scores >= own[:, None]
    return {
        "all": ahead.sum(dim=1).double().numpy(),
        "cold": ahead[:, -len(world.cold) :].sum(dim=1).double().numpy(),
    }
