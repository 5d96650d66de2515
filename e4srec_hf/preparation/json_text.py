"""JSON as logs have it: an object a line, a Python literal a line, or an array of objects."""

import ast
import codecs
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from .errors import PreparationError

#: Characters of an object that Python parses; parsing takes up to some hundred times as much memory.
MOST_CHARACTERS = 1 << 20
_ARRAY = re.compile(rb"(\xef\xbb\xbf)?\s*\[\s*(\{|\]|\Z)")
_BETWEEN = re.compile(r"[\s,\[\]\ufeff]*")
_PLAIN = codecs.getincrementaldecoder("utf-8")


def parse_object(line: str) -> dict[Any, Any] | None:
    """Parse a line as JSON, also unusual JSON, or as a Python literal (Amazon 2014); ``None`` if it is no object.

    Nothing is evaluated.
    """
    if len(line) > MOST_CHARACTERS:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def as_json(line: str | None) -> str | None:
    """The scalar fields of a line that DuckDB does not read as JSON, as JSON; ``None`` if it is no object.

    Fields that are not valid UTF-8 are left out.
    """
    found = None if line is None else parse_object(line)
    if found is None:
        return None
    scalars = {
        name: value
        for name, value in found.items()
        if isinstance(name, str) and isinstance(value, str | int | float) and _is_text(name) and _is_text(value)
    }
    return json.dumps(scalars)


def is_array(start: bytes) -> bool:
    """Whether a text starts as an array of objects."""
    return _ARRAY.match(start) is not None


def elements(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Turn the UTF-8 text of arrays into one line per element.

    Raises:
        PreparationError: If an element is not valid JSON or too long, or the text ends before its array.
    """
    decoder, scan = _PLAIN("surrogateescape"), json.JSONDecoder().raw_decode
    text, number = "", 0
    for part in itertools.chain(parts, [b""]):
        text += decoder.decode(part, final=not part)
        lines, place = [], 0
        while True:
            between = _BETWEEN.match(text, place)
            start = between.end() if between else place
            if start == len(text):
                break
            try:
                _, end = scan(text, start)
                problem = f"it has more than {MOST_CHARACTERS:,} characters" if end - start > MOST_CHARACTERS else None
            except json.JSONDecodeError as error:
                end, problem = len(text), f"{error.msg}, or it has more than {MOST_CHARACTERS:,} characters"
            except RecursionError:
                end, problem = start, "it is nested too deeply"
            if end == len(text) and part and len(text) - start <= MOST_CHARACTERS:
                break  # the next part may complete it
            number += 1
            if problem:
                raise PreparationError(f"element {number:,} of the JSON array cannot be read: {problem}.")
            lines.append(text[start:end].replace("\n", " ").replace("\r", " ") + "\n")
            place = end
        if lines:
            yield "".join(lines).encode("utf-8", "surrogateescape")
        if not part and "]" not in text[place:]:
            raise PreparationError(f"the JSON array ends after element {number:,} without its closing bracket.")
        text = text[place:]


def _is_text(value: Any) -> bool:
    try:
        str(value).encode()
    except (UnicodeEncodeError, ValueError):  # a lone surrogate, or an int with too many digits
        return False
    return True
