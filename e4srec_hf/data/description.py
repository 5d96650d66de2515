"""The description of a data set, for cards and messages: its name, its sizes and the hash of its sequences."""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub.utils import HFValidationError, validate_repo_id

from .sequences import catalogue_of, sequences_sha256


def describe_data(source: str | os.PathLike[str], sequences: Dataset, n_items: int | None = None) -> dict[str, Any]:
    """The facts of a data set that a card shows.

    Args:
        source: As for `load_sequences`: a file, a folder or a Hub data set. Of a path, only the last part is kept.
        sequences: All sequences, before they are split.
        n_items: Items of the catalogue, if it has more than the sequences.

    Returns:
        ``name``, ``hub_id`` (``None`` if it is not on the Hub), ``users``, ``items``, ``interactions`` and ``sha256``
        of the sequences.
    """
    name = os.fspath(source)
    return {
        "name": without_folders(name),
        "hub_id": name if is_hub_id(name) else None,
        "users": len(sequences),
        "items": len(catalogue_of(sequences)) if n_items is None else n_items,
        "interactions": sum(len(items) for items in sequences["item_ids"]),
        "sha256": sequences_sha256(sequences),
    }


def is_hub_id(name: str | None) -> bool:
    """Whether a name is ``namespace/name`` as on the Hub, and not a file or folder here."""
    if name is None or name.count("/") != 1 or os.path.exists(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def without_folders(value: Any) -> Any:
    """The name of a file or folder if a value is its path; any other value as it is. Folders may be private."""
    is_path = isinstance(value, str) and "\n" not in value and "\0" not in value and os.path.exists(value)
    return Path(value).name or value if is_path else value
