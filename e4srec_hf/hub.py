"""What lies in a model repo besides the model: the titles of its items."""

import json
import os
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

#: Raw item id to title, where the data had titles.
TITLES_NAME = "item_titles.json"


def item_titles(source: str | os.PathLike[str], **hub_arguments: Any) -> dict[str, str]:
    """The titles that a folder or Hub repo brings along; empty if it has none.

    Args:
        source: Folder or Hub id of a model.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.
    """
    file = cached_file(
        source,
        TITLES_NAME,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub_arguments,
    )
    return {} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
