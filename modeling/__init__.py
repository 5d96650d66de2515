"""The code that travels: exactly the Python files that an adapter repo on the Hub holds.

Nothing here imports the rest of the package, so that a repo loads where the package was never installed. This file does
not travel. It imports a model when its name is used, because a configuration needs neither torch's models nor PEFT.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_e4srec import E4SRecConfig
    from .configuration_sasrec import SASRecConfig
    from .modeling_e4srec import E4SRecModel
    from .modeling_sasrec import SASRecModel

__all__ = ["E4SRecConfig", "E4SRecModel", "SASRecConfig", "SASRecModel"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind, model = ("configuration", name[:-6]) if name.endswith("Config") else ("modeling", name[:-5])
    return getattr(import_module(f".{kind}_{model.lower()}", __name__), name)
