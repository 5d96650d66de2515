"""What an id of an item or a user is, for every way in: text as it stands, or a whole number as it stands.

Nothing is guessed and nothing is tidied: ``"007"``, ``"1e5"``, ``"2021-01-05"``, ``"true"``, blanks around a text and
forms of Unicode stay as they are. Missing values, floating-point numbers, truth values, times, lists and empty or blank
texts are no ids, and neither is text with control characters.
"""

import re
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import pyarrow as pa

#: Characters that no id may have, as a regular expression for Python, Arrow and DuckDB: NUL and the other controls.
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f]"
#: Halves of a surrogate pair are no text either: JSON can write them, UTF-8 cannot.
UNUSABLE = re.compile(CONTROL_CHARACTERS + "|[\ud800-\udfff]")
#: What to do about ids that are refused.
RULE = "an id is text or a whole number"


def as_ids(values: Iterable[Any]) -> list[str]:
    """Ids as text, each as it stands.

    Args:
        values: Texts and whole numbers.

    Raises:
        ValueError: If one of them can be no id; the message says which and why.
    """
    ids = [value if type(value) is str else str(value) if type(value) is int else _as_text(value) for value in values]
    if not all(map(str.strip, ids)):
        raise ValueError(f"an id is empty or blank; {RULE}")
    if UNUSABLE.search("".join(ids)):
        raise ValueError(
            f"the id {next(filter(UNUSABLE.search, ids))!r} has control characters or halves of characters"
        )
    return ids


def check_type_of_ids(kind: pa.DataType) -> None:
    """Refuse a column of a table whose type holds no ids.

    Args:
        kind: The Arrow type of the column, of the items in its lists for a column of lists.

    Raises:
        ValueError: If it holds neither text nor whole numbers; the message names the type.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(holds(kind) for holds in (*texts, pa.types.is_integer, pa.types.is_null)):
        raise ValueError(f"it holds {kind}; {RULE}: write them as text, as they are in the source")


def _as_text(value: Any) -> str:
    if value is None:
        raise ValueError(f"an id is missing; {RULE}")
    if isinstance(value, str) or (isinstance(value, Integral) and not isinstance(value, bool)):
        return str(value)
    raise ValueError(f"{str(value)[:40]} ({type(value).__name__}) is no id; {RULE}")
