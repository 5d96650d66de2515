"""Prepare a data set from raw public logs: files, records, interactions, sequences, splits, a folder to push."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import PreparationError
    from .options import PreparationOptions
    from .pipeline import Preparation, prepare
    from .queries import Query
    from .source import Log, Owner, Source
    from .sources import SOURCES
    from .sources.table import make_table

#: Name to its module. They are imported on first use, for the help of the command needs only the sources.
_NAMES = {
    "SOURCES": "sources",
    "Log": "source",
    "Owner": "source",
    "Preparation": "pipeline",
    "PreparationError": "errors",
    "PreparationOptions": "options",
    "Query": "queries",
    "Source": "source",
    "make_table": "sources.table",
    "prepare": "pipeline",
}

__all__ = [
    "SOURCES",
    "Log",
    "Owner",
    "Preparation",
    "PreparationError",
    "PreparationOptions",
    "Query",
    "Source",
    "make_table",
    "prepare",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_NAMES[name]}", __name__), name)
