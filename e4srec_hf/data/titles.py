"""What a title of an item is: text of at most so many characters, none of which steers a terminal."""

import re
from collections.abc import Mapping
from typing import Any

#: Characters of a title. A preparation cuts longer ones.
LONGEST_TITLE = 1000
#: Control characters without tabs and ends of lines, marks that write from right to left, and halves of characters.
STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff]")


def problem_of_title(title: Any) -> str | None:
    """Why something can be no title; ``None`` if it can."""
    if not isinstance(title, str):
        return "is not a text"
    if len(title) > LONGEST_TITLE:
        return f"has {len(title):,} characters, more than {LONGEST_TITLE:,}"
    return "has control characters or halves of characters" if STEERING.search(title) else None


def checked_titles(titles: Mapping[str, str | None] | None, name: str) -> dict[str, str]:
    """Raw id to title, of items that have one; titles that no model or data set may have are refused.

    Args:
        titles: Raw id to title; ``None`` stands for no title, and for no titles.
        name: What they are called in messages.

    Raises:
        TypeError: If they are no mapping.
        ValueError: If an id or a title is none.
    """
    check_maps_ids({} if titles is None else titles, name)
    known = {item: title for item, title in (titles or {}).items() if title is not None}
    for item, title in known.items():
        if not isinstance(item, str):
            raise ValueError(f"{name}: the id {item!r:.60} is not a text, as raw ids are.")
        if problem := problem_of_title(title):
            raise ValueError(f"{name}: the title of {item[:60]!r} {problem}.")
    return known


def check_maps_ids(titles: Mapping[str, Any], name: str) -> None:
    """Refuse titles without their ids.

    Raises:
        TypeError: If ``titles`` is no mapping.
    """
    if not isinstance(titles, Mapping):
        raise TypeError(f"{name} must map raw ids to titles, {{raw id: title}}, and not be a {type(titles).__name__}.")
