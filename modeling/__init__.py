"""The code that travels: exactly the Python files that an adapter repo on the Hub holds.

Nothing here imports the rest of the package, so that a repo loads where the package was never installed.
"""

from .configuration_e4srec import E4SRecConfig
from .configuration_sasrec import SASRecConfig
from .modeling_e4srec import E4SRecModel
from .modeling_sasrec import SASRecModel

__all__ = ["E4SRecConfig", "E4SRecModel", "SASRecConfig", "SASRecModel"]
