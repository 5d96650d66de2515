"""Parse JSON that others wrote, within bounds of the number of values and of depth."""

import codecs
import json
import math
from typing import Any

from .limits import DEEPEST_JSON, MOST_VALUES


def parse(content: bytes, most_values: int = MOST_VALUES, *, exact: bool = True) -> Any:
    """Parse JSON as the standard defines it, without duplicate keys, NaN and infinity.

    Args:
        content: The file.
        most_values: Commas and opening brackets that it may have.
        exact: Whether texts must be right. Otherwise each byte of theirs becomes a character, which takes less memory.

    Raises:
        ValueError: If it is not JSON, or has too many values or too many of them inside each other.
        RecursionError: If it is nested too deeply to be parsed.
    """
    if (values := sum(map(content.count, (b",", b"[", b"{")))) > most_values:
        raise ValueError(f"it has {values} values, more than {most_values}")
    if exact:
        text = content.decode("utf-8")
    else:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(content), 2**20):
            decoder.decode(content[start : start + 2**20])
        decoder.decode(b"", final=True)
        text = content.decode("latin-1")
    del content
    document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse, parse_float=_finite)
    _check_depth(document)
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("duplicate key")
    return content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is too large")
    return number


def _children(document: Any) -> list[Any]:
    values = document.values() if isinstance(document, dict) else document
    return [value for value in values if type(value) in (dict, list)]


def _check_depth(document: Any) -> None:
    level, depth = _children([document]), 0
    while level:
        level, depth = [child for container in level for child in _children(container)], depth + 1
        if depth > DEEPEST_JSON:
            raise ValueError(f"it has more than {DEEPEST_JSON} values inside each other")


def has_auto_map(document: Any) -> bool:
    """Whether parsed JSON names code to run, at any depth."""
    level = _children([document])
    while level:
        if any(isinstance(each, dict) and isinstance(each.get("auto_map"), dict | list) for each in level):
            return True
        level = [child for container in level for child in _children(container)]
    return False
