"""Opening a saved model for the commands: what else a folder or a repo holds is said before anything is loaded."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedTokenizerBase
from transformers.utils import cached_file

from ..base_models import check_is_base, check_width_for_4bit, quantization
from ..files import CONFIG_NAME, MODEL_FILES, check_config, read_json
from ..modeling.saving import TOKENIZER_FILES
from .item_tokenizer import check_vocabulary, load_item_tokenizer


def load_saved_tokenizer(source: str | os.PathLike[str], **hub_arguments: Any) -> PreTrainedTokenizerBase:
    """The item tokenizer of a saved model.

    Args:
        source: Folder or Hub id of an E4SRec or SASRec model.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Raises:
        OSError: If there is no model, or it has no item tokenizer.
        ValueError: If there is something else than a model of this package.
    """
    name = os.fspath(source)
    _config_of(name, **hub_arguments)
    try:
        cached_file(name, TOKENIZER_FILES[0], **hub_arguments)
    except OSError as error:
        raise OSError(f"{name} has no item tokenizer ({TOKENIZER_FILES[0]}): is it a whole model? ({error})") from error
    return load_item_tokenizer(name, **hub_arguments)


def load_saved_model(
    source: str | os.PathLike[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    base_model: str | os.PathLike[str] | None = None,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
    device: str | None = None,
    **hub_arguments: Any,
) -> Any:
    """Load a model with the installed code.

    Args:
        source: Folder or Hub id of an E4SRec or SASRec model.
        tokenizer: Its item tokenizer.
        base_model: Another base than the recorded one.
        load_in_4bit: Quantize the base to 4 bits.
        load_in_8bit: Quantize the base to 8 bits.
        device: Where to; by default the GPU if there is one.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Raises:
        OSError: If the model or its base cannot be found.
        ValueError: If there is something else than a model of this package, it has no base to choose or quantize, or
            the tokenizer does not fit.
    """
    name = os.fspath(source)
    config = _config_of(name, **hub_arguments)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    arguments = quantization(load_in_4bit, load_in_8bit, device)
    if base_model is not None:
        arguments["base_model"] = base_model
    if arguments and config["model_type"] != "e4srec":
        raise ValueError(f"{name} is no E4SRec model: it has no base to take another one for, or to quantize.")
    if arguments and config.get("tuning") == "full":
        raise ValueError(f"{name} brings its base along, trained whole: it takes no other one and is not quantized.")
    if base_model is not None:
        check_is_base(base_model, token=hub_arguments.get("token"))
    model = AutoModel.from_pretrained(name, trust_remote_code=False, **arguments, **hub_arguments)
    if load_in_4bit:
        check_width_for_4bit(model.base.config, device)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return model if "quantization_config" in arguments else model.to(device)


def _config_of(name: str, **hub_arguments: Any) -> dict[str, Any]:
    """The content of the ``config.json`` of a model of this package."""
    if os.path.isfile(name):
        raise NotADirectoryError(f"{name} is a file; expected the folder of a saved model.")
    if os.path.isdir(name) and not Path(name, CONFIG_NAME).is_file():
        configs = Path(name).glob(f"*/{CONFIG_NAME}")
        inside = sorted(str(file.parent) for file in configs if read_json(file).get("model_type") in MODEL_FILES)
        where = f": did you mean {inside[-1]}?" if inside else f": it has no {CONFIG_NAME}."
        raise ValueError(f"{name} holds no model itself{where}")
    path = str(cached_file(name, CONFIG_NAME, **hub_arguments))
    content = read_json(path)
    kind = content.get("model_type")
    if kind not in MODEL_FILES:
        what = f"a model of the type {kind}" if isinstance(kind, str) else f"a {CONFIG_NAME} without a model_type"
        raise ValueError(
            f"{name} holds {what}; expected {' or '.join(MODEL_FILES)}. A language model is the base of such a model."
        )
    check_config(content, path)
    return content
