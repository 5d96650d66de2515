"""Parts of a card as Markdown and Python, escaped so that no data can break them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Characters with a meaning in Markdown, tables or HTML. Underscores have none inside a word.
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in "|&<>[]*`\\~"}


def plain(value: Any) -> str:
    """A value as one line of text that Markdown shows literally; a line break is shown as a backslash and an n."""
    lines = str(value).translate(_ENTITIES).splitlines()
    return r"\n".join(lines) + (r"\n" if str(value).endswith("\n") else "")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the content of its cells is shown literally."""
    lines = [list(header), ["---"] * len(header), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def name_value_table(header: tuple[str, str], values: Mapping[str, Any]) -> str:
    """A Markdown table with one row per name."""
    return table(header, ((name, "(empty)" if value == "" else value) for name, value in values.items()))


def python_literal(value: str | Sequence[Any]) -> str:
    """A text, or lists of texts, as Python code on one line, in double quotes unless that needs escapes."""
    if not isinstance(value, str):
        return f"[{', '.join(python_literal(element) for element in value)}]"
    literal = repr(value)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in literal else literal


def duration(seconds: float) -> str:
    """Seconds in words: ``8.3 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"
