"""Saving a trained model: weights, config, code, item tokenizer and card in one folder."""

import os
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..cards.callback import refresh_model_card
from ..data.item_tokenizer import check_vocabulary
from ..evaluation.fingerprint import folder_fingerprint
from ..files import CARD_NAME
from ..modeling.saving import AtomicSaveMixin


def save_trained(model: AtomicSaveMixin, tokenizer: PreTrainedTokenizerBase, directory: str | os.PathLike[str]) -> None:
    """Write a model with its item tokenizer to a folder that `AutoModel` and `AutoTokenizer` load.

    The model card is written if there is none, or if weights or catalogue have changed.

    Raises:
        ValueError: If the tokenizer does not fit the model.
    """
    check_vocabulary(tokenizer, model.config.vocab_size)
    has_card = Path(directory, CARD_NAME).is_file()
    before = folder_fingerprint(directory) if has_card else None
    model.save_pretrained(directory, tokenizer=tokenizer)
    if not has_card or (before is not None and before != folder_fingerprint(directory)):
        refresh_model_card(directory, tokenizer=tokenizer)
    model.config.name_or_path = os.path.abspath(directory)  # a push finds tokenizer and card there
    # the Trainer leaves its arguments as a pickle beside a model that it saved here; nothing pickled is shared
    Path(directory, "training_args.bin").unlink(missing_ok=True)
