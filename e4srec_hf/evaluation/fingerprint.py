"""A fingerprint of a model, which tells whether figures still belong to it."""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from ..files import CONFIG_NAME, MODEL_FILES, config_class, open_weights, read_json
from ..modeling.saving import WEIGHTS_NAME, AtomicSaveMixin, weights_digest

#: Fields of a config that no score depends on: those of training, of texts whose tokens are recorded, and of the base,
#: whose content counts and not its name.
WITHOUT_EFFECT = {
    *("kwargs", "format_version", "instruction", "response", "grown_from"),
    *("train_item_embeddings", "projection_init", "item_dropout", "base_dropout"),
    *("dropout", "loss", "num_negatives", "initializer_range"),
    *("base_model_name_or_path", "base_model_revision"),
}
#: The same of ``lora``.
LORA_WITHOUT_EFFECT = {"lora_dropout", "init_lora_weights"}
#: The same of the config of a base.
BASE_WITHOUT_EFFECT = {"_name_or_path", "transformers_version", "architectures", "use_cache"}
#: Of a larger tensor of a base, only some rows are read.
MOST_VALUES, SOME_ROWS = 2**20, 32


def model_fingerprint(model: AtomicSaveMixin) -> str:
    """The fingerprint of a model in memory: that of the folder it would be saved to.

    It covers names, shapes and values of the saved tensors, the fields of the config that scores depend on (catalogue,
    prompt, history, LoRA), and the base: its dtype, its commit on the Hub or the content of its folder or file, of
    whose large tensors some rows are read. The dtype of the saved tensors does not count, if the values are the same.
    """
    tensors = model.state_dict()
    dtype = str(model.dtype).removeprefix("torch.")
    return _fingerprint(_effects(model.config, dtype, None), model.saved_keys(), tensors.__getitem__)


def folder_fingerprint(directory: str | os.PathLike[str]) -> str | None:
    """The fingerprint of the model in a folder; ``None`` where the folder has no weights."""
    return file_fingerprint(Path(directory, WEIGHTS_NAME), Path(directory, CONFIG_NAME))


def file_fingerprint(weights: str | os.PathLike[str], config: str | os.PathLike[str]) -> str | None:
    """As [`folder_fingerprint`], of the two files; a base inside the folder is looked for beside the config."""
    if not os.path.isfile(weights):
        return None
    content = read_json(config)
    dtype = content.get("dtype") or content.get("torch_dtype") or "float32"
    effects, kind = None, content.get("model_type", "")
    if kind in MODEL_FILES:
        effects = _effects(config_class(kind).from_dict(content), dtype, Path(config).parent)
    with open_weights(weights) as stored:
        return _fingerprint(effects, list(stored.keys()), stored.get_tensor)


def _effects(config: PreTrainedConfig, dtype: str, directory: Path | None) -> dict[str, Any]:
    """What scores depend on besides the saved tensors, as plain values."""
    names = set(inspect.signature(type(config).__init__).parameters) - WITHOUT_EFFECT - {"self"}
    effects = {name: getattr(config, name) for name in names} | {"dtype": dtype}
    if config.model_type == "e4srec":
        effects["lora"] = _without(effects["lora"], LORA_WITHOUT_EFFECT) if config.tuning == "lora" else None
        effects["base_config"] = _without(config.base_config or {}, BASE_WITHOUT_EFFECT)
        effects["base"] = _base(config.base_model_name_or_path, config.base_model_revision, directory)
    return effects


def _base(name: str | None, revision: str | None, directory: Path | None) -> list[str | None]:
    """What a base is: its content where its name is that of a folder, else its name and its commit."""
    folder = Path(directory or "", name or "")
    is_path = name is not None and (name.startswith("./") or os.path.isabs(name))  # else an id, whatever lies here
    if is_path and folder.is_file():
        return [weights_digest(folder)]
    if not is_path or not folder.is_dir():
        return [name, revision]
    digest = hashlib.sha256(_json(_without(read_json(folder / CONFIG_NAME), BASE_WITHOUT_EFFECT)))
    with ExitStack() as opened:
        files = [opened.enter_context(open_weights(file)) for file in sorted(folder.glob("*.safetensors"))]
        places = {tensor: stored for stored in files for tensor in stored.keys()}  # noqa: SIM118
        for tensor, stored in sorted(places.items(), key=lambda place: place[0]):
            part = stored.get_slice(tensor)
            shape = part.get_shape()
            digest.update(_json([tensor, shape]))
            n_rows = shape[0] if shape else 1
            rows = torch.linspace(0, n_rows - 1, min(n_rows, SOME_ROWS)).long().tolist()
            is_small = torch.Size(shape).numel() <= MOST_VALUES
            values = [stored.get_tensor(tensor)] if is_small else [part[row : row + 1] for row in rows]
            for value in values:
                digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return [digest.hexdigest()]


def _without(content: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def _json(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _fingerprint(effects: Any, names: Iterable[str], tensor_of: Callable[[str], Tensor]) -> str:
    digest = hashlib.sha256(_json(effects))
    for name in sorted(names):
        tensor = tensor_of(name).detach().to("cpu", torch.float32).contiguous()
        digest.update(_json([name, list(tensor.shape)]))
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
