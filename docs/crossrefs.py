"""What the reference makes of docstrings: [`name`] is a link, and a comment `#: …` describes the constant below it."""

import re
from collections.abc import Iterator
from typing import Any

from griffe import Attribute, Docstring, Extension, Module, NameResolutionError, Object

REFERENCE = re.compile(r"\[`([\w.]+)`\](?![\[(])")


class CrossReferences(Extension):
    """Goes through a package once it is read. A name that leads nowhere is a warning of mkdocs, an error if strict."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Rewrite the docstrings of all modules, classes, functions and attributes."""
        objects = list(members(pkg))
        paths: dict[str, list[str]] = {}
        for obj in objects:
            paths.setdefault(obj.name, []).append(obj.path)
            if isinstance(obj, Attribute) and obj.docstring is None:
                obj.docstring = comment_above(obj)
                if obj.docstring is None and (obj.name == "logger" or not isinstance(obj.parent, Module)):
                    obj.public = False  # fields: the docstring of their class describes them
        for obj in objects:
            if obj.docstring is not None:
                obj.docstring.value = REFERENCE.sub(
                    lambda match, obj=obj: f"[`{match[1]}`][{full_path(obj, match[1], paths)}]", obj.docstring.value
                )


def members(obj: Object) -> Iterator[Object]:
    """``obj`` and all that is defined in it; what is imported is defined elsewhere."""
    yield obj
    for member in obj.members.values():
        if isinstance(member, Object):
            yield from members(member)


def comment_above(attribute: Attribute) -> Docstring | None:
    """The lines that begin with ``#:`` right above the attribute."""
    lines = attribute.parent.module.lines_collection[attribute.filepath] if attribute.lineno else []
    found: list[str] = []
    for line in reversed(lines[: (attribute.lineno or 1) - 1]):
        if not line.lstrip().startswith("#:"):
            break
        found.insert(0, line.lstrip()[2:].strip())
    return Docstring("\n".join(found), parent=attribute) if found else None


def full_path(obj: Object, name: str, paths: dict[str, list[str]]) -> str:
    """The full path of ``name`` as ``obj`` sees it, or else of the one thing in the package that has this name."""
    first, _, rest = name.partition(".")
    for scope in (obj, obj.module):
        try:
            return ".".join(filter(None, (scope.resolve(first), rest)))
        except NameResolutionError:
            continue
    found = paths.get(first, [])
    return ".".join(filter(None, (found[0] if len(found) == 1 else first, rest)))
