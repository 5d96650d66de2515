"""Read the JSON files of a repo, within bounds of size, number of values and depth."""

import re
from collections.abc import Mapping
from typing import Any

from ...data.titles import STEERING, problem_of_title
from ...files import CONFIG_NAME, EVALUATION_NAME, SAMPLE_NAME, TITLES_NAME, TRAINING_NAME
from ...modeling.saving import TOKENIZER_FILES, WEIGHTS_NAME
from .base_fields import check_texts
from .bases import folder_of_base
from .findings import Finding, failed, unchecked
from .json_files import has_auto_map, parse
from .limits import (
    ALL_JSON,
    ALL_JSON_OF_AN_ITEM,
    JSON_OF_AN_ITEM,
    LARGEST_JSON,
    LARGEST_TOKENIZER,
    MOST_VALUES,
    VALUES_OF_A_TOKENIZER,
    VALUES_OF_AN_ITEM,
)
from .sources import Source, UnreadableError

#: Index of weights that are in several files.
INDEX_NAME = f"{WEIGHTS_NAME}.index.json"
#: Files whose content other checks need.
KEPT = {CONFIG_NAME, *TOKENIZER_FILES, EVALUATION_NAME}
#: Files of a model that have an entry for each item.
GROW_WITH_CATALOGUE = (TOKENIZER_FILES[0], TITLES_NAME)
#: Files of a base's tokenizer that may be large.
LARGE_IN_BASE = ("tokenizer.json", "vocab.json")
#: Files of a model that hold an object.
OBJECTS = (EVALUATION_NAME, TRAINING_NAME, TITLES_NAME, SAMPLE_NAME)
#: Characters that steer a terminal, or write from right to left (as one character, or as its bytes in UTF-8).
CONTROLS = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\u202d\\u202e]|\\xe2\\x80[\\xad\\xae]")


def read_documents(source: Source, n_items: int) -> tuple[dict[str, Any], list[Finding]]:
    """Parse the JSON files of a repo, one at a time, the smallest first after ``config.json``.

    Args:
        source: The repo.
        n_items: Rows of the model's item table; they bound the size of the files that have an entry for each item.

    Returns:
        The documents by path, ``None`` for those whose content no check needs, and findings: a file that is not JSON
        or is too large, duplicate keys, an ``auto_map``, which names code to run, in any file but ``config.json``.
    """
    documents: dict[str, Any] = {}
    findings: list[Finding] = []
    total, most = 0, ALL_JSON + n_items * ALL_JSON_OF_AN_ITEM
    paths = [path for path in source.files if path.lower().endswith(".json")]
    for path in sorted(paths, key=lambda path: (path != CONFIG_NAME, source.files[path])):
        total += source.files[path]
        try:
            if total > most:
                raise ValueError(f"it and the smaller JSON files have {total} bytes, more than {most}")
            most_bytes, most_values = _limits(path, n_items)
            if (size := source.files[path]) > most_bytes:
                raise ValueError(f"it has {size} bytes, more than {most_bytes}")
            kept = path in KEPT | _kept_of_base(documents.get(CONFIG_NAME))
            document = parse(source.read(path), most_values, exact=kept)
        except UnreadableError as error:
            findings.append(unchecked(path, "could not be read", str(error)))
            continue
        except (ValueError, RecursionError) as error:
            findings.append(failed(path, f"is not valid JSON: {error}", "Different parsers could read it differently."))
            continue
        if path != CONFIG_NAME and has_auto_map(document):
            findings.append(failed(path, "has an auto_map", "It names Python code to run while loading."))
        if path in OBJECTS and not isinstance(document, dict):
            findings.append(failed(path, f"holds a {type(document).__name__}", "It must be an object with names."))
        elif path == TITLES_NAME:
            findings += _check_titles(document)
        if path.endswith("generation_config.json") and isinstance(document, dict):
            findings += check_texts(path, document)
        documents[path] = document if kept else None
        del document  # before the next one is read
    return documents, findings


def _check_titles(titles: Mapping[str, Any]) -> list[Finding]:
    """The first id that has control characters, or whose title no release writes."""
    why = "A terminal that shows them would obey them, or be flooded."
    for item, title in titles.items():
        if STEERING.search(item):
            return [failed(TITLES_NAME, f"has control characters in the id {item[:60]!r}", why)]
        if problem := problem_of_title(title):
            return [failed(TITLES_NAME, f"has a title that {problem}: that of {item[:60]!r}", why)]
    return []


def _kept_of_base(config: Any) -> set[str]:
    base = folder_of_base(config)
    return set() if base is None else {f"{base}/{name}" for name in (CONFIG_NAME, INDEX_NAME, TOKENIZER_FILES[1])}


def _limits(path: str, n_items: int) -> tuple[int, int]:
    """The most bytes and values of a JSON file."""
    folder, _, name = path.rpartition("/")
    if path in GROW_WITH_CATALOGUE:
        return LARGEST_JSON + n_items * JSON_OF_AN_ITEM, MOST_VALUES + n_items * VALUES_OF_AN_ITEM
    if folder and name in LARGE_IN_BASE:
        return LARGEST_TOKENIZER, VALUES_OF_A_TOKENIZER
    return LARGEST_JSON, MOST_VALUES
