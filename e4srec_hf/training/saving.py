"""Saving a trained model: weights, config, code, item tokenizer and card in one folder."""

import hashlib
import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..cards.facts import add_facts, load_facts
from ..cards.model_card import refresh_model_card
from ..data.item_tokenizer import check_vocabulary
from ..files import EVALUATION_NAME, read_json
from ..modeling.saving import WEIGHTS_NAME, staged_directory


def save_trained(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: str | os.PathLike[str]) -> None:
    """Write a model with its item tokenizer to a folder that `AutoModel` and `AutoTokenizer` load.

    A card is written where there is none, or it was of another model; figures of another model are removed.

    Raises:
        ValueError: If the tokenizer is not the model's.
    """
    check_vocabulary(tokenizer, model.config.vocab_size)
    before = _fingerprint(Path(directory))
    with staged_directory(directory) as stage:
        tokenizer.save_pretrained(stage)
    model.save_pretrained(directory)
    changed = before is not None and before != _fingerprint(Path(directory))
    if changed:
        Path(directory, EVALUATION_NAME).unlink(missing_ok=True)
        if "popularity_skew" in load_facts(directory):
            add_facts(directory, {"popularity_skew": None})
    if changed or not Path(directory, "README.md").is_file():
        refresh_model_card(directory)
    model.config.name_or_path = str(directory)  # `push_to_hub` finds tokenizer and card there
    # `Trainer` leaves its arguments as a pickle beside a model that it saved here; nothing pickled travels
    Path(directory, "training_args.bin").unlink(missing_ok=True)


def _fingerprint(directory: Path) -> Any:
    """Weights and catalogue of the model in a folder; ``None`` where there is none."""
    weights, config = directory / WEIGHTS_NAME, read_json(directory / "config.json")
    if not weights.is_file():
        return None
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return digest, config.get("vocab_size"), config.get("retired_items") or []
