"""The files of a model folder by name, the code that travels, and JSON files that are never half-written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_import_files

from . import modeling
from .modeling.saving import BASE_FILES, TOKENIZER_FILES, WEIGHTS_NAME, staged_directory

CONFIG_NAME = "config.json"
CARD_NAME = "README.md"
#: Metrics on the test targets, with a fingerprint of the model that they belong to.
EVALUATION_NAME = "evaluation.json"
#: Facts of the training.
TRAINING_NAME = "training.json"
#: Raw item id to title, if the data has titles.
TITLES_NAME = "item_titles.json"
#: The learning curves.
CURVES_NAME = "learning_curves.png"
#: Recommendations of the trained model, to compare with those of the loaded one.
SAMPLE_NAME = "sample_recommendations.json"
#: A model cannot be loaded without these.
REQUIRED_FILES = (CONFIG_NAME, WEIGHTS_NAME, *TOKENIZER_FILES)
#: Further files that belong to a model, if they exist.
OPTIONAL_FILES = (CARD_NAME, EVALUATION_NAME, TRAINING_NAME, TITLES_NAME, SAMPLE_NAME, CURVES_NAME)
#: Most bytes of the header of a safetensors file; a language model with a thousand layers has a smaller one.
LARGEST_HEADER = 10 * 1024**2
#: Folder of a base that is saved inside the folder of its adapter.
BASE_FOLDER = "base"
#: Model type to the Python file of the model, which imports all other files.
MODEL_FILES = {"e4srec": "modeling_e4srec.py", "sasrec": "modeling_sasrec.py"}


def is_model_file(name: str) -> bool:
    """Whether a push may send a file of this name: a path inside the repo."""
    folder, _, file = name.rpartition("/")
    patterns = {"": (*REQUIRED_FILES, *OPTIONAL_FILES, "*.py"), BASE_FOLDER: BASE_FILES}.get(folder, ())
    return any(map(PurePath(file).match, patterns))


def code_files(model_type: str, directory: str | os.PathLike[str] | None = None) -> list[Path]:
    """The Python files of a model, that of the model first, then its configuration, then the others by name.

    Args:
        model_type: ``e4srec`` or ``sasrec``.
        directory: Folder of a saved model. Without one, or where no code has been saved yet, the files are those of
            this installation, which saving copies.
    """
    name = MODEL_FILES[model_type]
    installed = Path(str(modeling.__file__)).parent
    model = installed / name if directory is None or not Path(directory, name).is_file() else Path(directory, name)
    others = {*map(Path, get_relative_import_files(model))} - {model}
    return [model, *sorted(others, key=lambda file: (not file.name.startswith("configuration_"), file.name))]


def travelling_code(source: str | os.PathLike[str]) -> tuple[int, int]:
    """How much Python a model's repo has: the number of files and the number of their lines.

    Args:
        source: Folder of a saved model; or a model type, ``e4srec`` or ``sasrec``, for the code of this installation.

    Raises:
        ValueError: If the folder has no model of this package.
    """
    if str(source) in MODEL_FILES:
        files = code_files(str(source))
    elif (model_type := read_json(Path(source, CONFIG_NAME)).get("model_type")) in MODEL_FILES:
        files = code_files(str(model_type), source)
    else:
        raise ValueError(f"{source} has no model of this package; model types are {', '.join(MODEL_FILES)}.")
    return len(files), count_lines(files)


def count_lines(files: list[Path]) -> int:
    """Lines of text files, all together."""
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file.

    Raises:
        ValueError: If the file is not a JSON object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file ({error}): fix or remove it.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a JSON object with names and values.")
    return content


@contextmanager
def open_weights(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a safetensors file.

    Raises:
        ValueError: If it is not one, or not whole.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            yield stored
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file ({error}): fetch or save it again.") from error


def config_class(model_type: str) -> Any:
    """The class of a config, by its model type: a key of [`MODEL_FILES`]."""
    return {"e4srec": modeling.E4SRecConfig, "sasrec": modeling.SASRecConfig}[model_type]


def check_config(content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse the content of a model's ``config.json`` at ``path`` if its class refuses it.

    Raises:
        ValueError: If a field has a type or a value that no model can be built from.
    """
    try:
        if content.get("model_type") in MODEL_FILES:
            config_class(content["model_type"]).from_dict(content)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def check_whole(directory: str | os.PathLike[str]) -> None:
    """Refuse the folder of a model in which a file that is there is damaged.

    Raises:
        ValueError: If the weights are cut off, or config or item tokenizer are no JSON objects.
    """
    check_config(read_json(Path(directory, CONFIG_NAME)), Path(directory, CONFIG_NAME))
    for name in TOKENIZER_FILES:
        read_json(Path(directory, name))
    weights = Path(directory, WEIGHTS_NAME)
    if weights.exists():
        with open_weights(weights):
            pass


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file as a whole or not at all; the folder is created if it does not exist.

    Raises:
        ValueError: If a number is NaN or infinite, which JSON does not have.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with staged_directory(Path(path).parent) as stage:
        (stage / Path(path).name).write_text(text, encoding="utf-8")
