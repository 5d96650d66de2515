"""The files of a model folder by name, and JSON files that are never half-written."""

import json
import os
from pathlib import Path, PurePath
from typing import Any

from .modeling.saving import BASE_FILES, TOKENIZER_FILES, WEIGHTS_NAME, staged_directory

#: Figures of test targets.
EVALUATION_NAME = "evaluation.json"
#: Facts of the training.
TRAINING_NAME = "training.json"
#: Raw item id to title, where the data has titles.
TITLES_NAME = "item_titles.json"
#: The learning curves.
CURVES_NAME = "learning_curves.png"
#: Recommendations of the trained model, to compare with after loading.
SAMPLE_NAME = "sample_recommendations.json"
#: A model cannot be loaded without these.
REQUIRED_FILES = ("config.json", WEIGHTS_NAME, *TOKENIZER_FILES)
#: These belong to a model where they exist.
OPTIONAL_FILES = ("README.md", EVALUATION_NAME, TRAINING_NAME, TITLES_NAME, SAMPLE_NAME, CURVES_NAME)
#: Folder of a base that is saved with its adapter.
BASE_FOLDER = "base"


def is_model_file(name: str) -> bool:
    """Whether a file of a repo belongs to a model, by its folder and name: what a push sends."""
    folder, _, file = name.rpartition("/")
    patterns = {"": (*REQUIRED_FILES, *OPTIONAL_FILES, "*.py"), BASE_FOLDER: BASE_FILES}.get(folder, ())
    return any(map(PurePath(file).match, patterns))


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file.

    Raises:
        ValueError: If the file holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file ({error}): mend or remove it.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a JSON object with names and values.")
    return content


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write beside, then move in; the folder is made where it does not exist.

    Raises:
        ValueError: If a number is NaN or infinite, which JSON cannot hold.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with staged_directory(Path(path).parent) as stage:
        (stage / Path(path).name).write_text(text, encoding="utf-8")
