"""Item vectors for E4SRec: from a trained SASRec, a safetensors file or a NumPy file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor, from_numpy
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..modeling import SASRecModel


def load_item_embeddings(
    source: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase, **hub_arguments: Any
) -> Tensor:
    """Load item vectors in the order of an item tokenizer.

    Args:
        source: A ``.safetensors`` file with one matrix (or several tensors, one of them ``item_embeddings.weight``), a
            ``.npy`` file, or the folder or Hub id of a `SASRecModel` with its item tokenizer. The files hold a row for
            each token, ``[PAD]`` and ``[UNK]`` first. A SASRec's rows are put in order by raw item id.
        tokenizer: The item tokenizer that the vectors are for.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Returns:
        ``(vocab, item dimension)`` float32.

    Raises:
        ValueError: If the rows do not fit the tokenizer, or the file does not hold a matrix of numbers. Pickled arrays
            are refused.
        OSError: If there is no such file, folder or repo.
    """
    if is_sasrec(source):
        return _from_sasrec(str(source), tokenizer, **hub_arguments)
    table = _from_npy(source) if Path(source).suffix == ".npy" else _from_safetensors(source)
    if table.dim() != 2 or len(table) != len(tokenizer):
        raise ValueError(
            f"{source} has the shape {tuple(table.shape)}, but the item tokenizer has {len(tokenizer)} tokens "
            f"([PAD], [UNK] and {len(tokenizer) - 2} items): one row for each is needed, in that order."
        )
    return table.float()


def is_sasrec(source: str | os.PathLike[str]) -> bool:
    """Whether item vectors come from a SASRec folder or repo, and not from a file."""
    return Path(source).suffix not in (".npy", ".safetensors")


def _from_npy(source: str | os.PathLike[str]) -> Tensor:
    try:
        array = np.load(source, allow_pickle=False)
        return from_numpy(array.astype(np.float32))
    except ValueError as error:
        raise ValueError(f"{source} is not a plain array of numbers ({error}); pickled arrays are not read.") from error


def _from_safetensors(source: str | os.PathLike[str]) -> Tensor:
    try:
        with safe_open(source, framework="pt") as stored:
            names = list(stored.keys())
            name = names[0] if len(names) == 1 else "item_embeddings.weight"
            if name not in names:
                raise ValueError(f"{source} holds {names}; expected one matrix, or one named {name!r}.")
            return stored.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{source} is no safetensors file ({error}).") from error


def _from_sasrec(source: str, tokenizer: PreTrainedTokenizerBase, **hub_arguments: Any) -> Tensor:
    model = SASRecModel.from_pretrained(source, **hub_arguments)
    rows = AutoTokenizer.from_pretrained(source, **hub_arguments).get_vocab()
    items = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if missing := [item for item in items if item not in rows]:
        raise ValueError(
            f"The SASRec in {source} has no vector for {len(missing)} of {len(items)} item tokens, "
            f"{', '.join(map(repr, missing[:5]))} among them: was it trained on this catalogue?"
        )
    return model.get_input_embeddings().weight.detach()[[rows[item] for item in items]].float()
