"""Prepare a data set from raw public logs: files, records, interactions, sequences, splits, a folder to push."""

from .errors import PreparationError
from .options import PreparationOptions
from .pipeline import Preparation, prepare
from .source import Log, Owner, Source
from .sources import SOURCES
from .sources.table import make_table

__all__ = [
    "SOURCES",
    "Log",
    "Owner",
    "Preparation",
    "PreparationError",
    "PreparationOptions",
    "Source",
    "make_table",
    "prepare",
]
