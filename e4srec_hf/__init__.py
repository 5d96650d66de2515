"""E4SRec as a first-class citizen of the Hugging Face Hub: train, rank, share, load.

With the package imported, `AutoModel` loads E4SRec and SASRec repos with the installed code, without remote code. The
import itself is light: torch and transformers are loaded when a name is used for the first time.
"""

from importlib import import_module
from typing import Any

from .registration import register_with_transformers
from .source_tree import find_packages_beside
from .version import __version__

_NAMES = {
    "E4SRecConfig": "modeling",
    "E4SRecModel": "modeling",
    "RankingTrainer": "training",
    "SASRecConfig": "modeling",
    "SASRecModel": "modeling",
    "evaluate_ranking": "evaluation",
    "load_item_embeddings": "data",
    "load_sequences": "data",
    "recommend_items": "serving",
    "save_trained": "training",
}

find_packages_beside(__name__, __path__[0])
register_with_transformers()

__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
