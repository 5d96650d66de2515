"""A fingerprint of a model, which tells whether figures still belong to it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..files import CONFIG_NAME, read_json
from ..modeling.saving import WEIGHTS_NAME, AtomicSaveMixin


def model_fingerprint(model: AtomicSaveMixin) -> str:
    """The fingerprint of a model in memory: that of the folder it would be saved to.

    It covers names, shapes and values of the saved tensors, the size of the catalogue and the retired items. It does
    not depend on the dtype, as long as the values are the same.
    """
    tensors = model.state_dict()
    return _fingerprint(model.saved_keys(), tensors.__getitem__, model.config.vocab_size, model.config.retired_items)


def folder_fingerprint(directory: str | os.PathLike[str]) -> str | None:
    """The fingerprint of the model in a folder; ``None`` where the folder has no weights."""
    return file_fingerprint(Path(directory, WEIGHTS_NAME), Path(directory, CONFIG_NAME))


def file_fingerprint(weights: str | os.PathLike[str], config: str | os.PathLike[str]) -> str | None:
    """As [`folder_fingerprint`], of the two files that it depends on."""
    if not os.path.isfile(weights):
        return None
    content = read_json(config)
    with safe_open(weights, framework="pt") as stored:
        names = list(stored.keys())
        return _fingerprint(names, stored.get_tensor, content.get("vocab_size"), content.get("retired_items") or [])


def _fingerprint(
    names: Iterable[str], tensor_of: Callable[[str], Tensor], vocab_size: Any, retired_items: list[int]
) -> str:
    digest = hashlib.sha256(json.dumps([vocab_size, retired_items]).encode())
    for name in sorted(names):
        tensor = tensor_of(name).detach().to("cpu", torch.float32).contiguous()
        digest.update(json.dumps([name, list(tensor.shape)]).encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
