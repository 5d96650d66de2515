"""JSON files that are never half-written, and an error that names the file where one is broken."""

import json
import os
from pathlib import Path
from typing import Any

from .modeling.saving import staged_directory


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
        raise ValueError(f"{path} is no JSON file ({error}): mend or remove it.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a JSON object with names and values.")
    return content


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write beside, then move in; the folder is made where it does not exist.

    Raises:
        ValueError: If a number is NaN or infinite, which JSON has no word for.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with staged_directory(Path(path).parent) as stage:
        (stage / Path(path).name).write_text(text, encoding="utf-8")
