"""Saving a trained model: weights, config, code, item tokenizer and card in one folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..cards.callback import refresh_model_card
from ..data.item_tokenizer import check_vocabulary
from ..data.titles import checked_titles
from ..evaluation.fingerprint import folder_fingerprint
from ..files import CARD_NAME, TITLES_NAME, read_json, write_json
from ..modeling.saving import AtomicSaveMixin


def save_trained(
    model: AtomicSaveMixin,
    tokenizer: PreTrainedTokenizerBase,
    directory: str | os.PathLike[str],
    *,
    titles: Mapping[str, str | None] | None = None,
) -> None:
    """Write a model with its item tokenizer to a folder that `AutoModel` and `AutoTokenizer` load.

    The model card is written if there is none, or if weights or catalogue have changed.

    Args:
        model: The model.
        tokenizer: Its item tokenizer.
        directory: The folder.
        titles: Raw id to title, for items that have one. Titles where the model was saved or loaded are kept.

    Raises:
        TypeError: If the titles are no mapping.
        ValueError: If the tokenizer does not fit the model, or a title is none.
    """
    new = checked_titles(titles, "titles")
    check_vocabulary(tokenizer, model.config.vocab_size)
    has_card = Path(directory, CARD_NAME).is_file()
    before = folder_fingerprint(directory) if has_card else None
    beside = model.file_beside(TITLES_NAME)
    known = {**({} if beside is None else read_json(beside)), **new}
    model.save_pretrained(directory, tokenizer=tokenizer)
    if known:
        write_json(Path(directory, TITLES_NAME), known)
    if not has_card or (before is not None and before != folder_fingerprint(directory)):
        refresh_model_card(directory, tokenizer=tokenizer)
    model.config.name_or_path = os.path.abspath(directory)  # a push finds tokenizer and card there
    # the Trainer leaves its arguments as a pickle beside a model that it saved here; nothing pickled is shared
    Path(directory, "training_args.bin").unlink(missing_ok=True)
