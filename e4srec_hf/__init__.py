"""E4SRec as a first-class citizen of the Hugging Face Hub: train, rank, share, load.

Importing the package registers its models, so that `AutoModel` uses the installed code and no remote code.
"""

from transformers import AutoConfig, AutoModel

from .modeling import E4SRecConfig, E4SRecModel, SASRecConfig, SASRecModel

AutoConfig.register(E4SRecConfig.model_type, E4SRecConfig, exist_ok=True)
AutoConfig.register(SASRecConfig.model_type, SASRecConfig, exist_ok=True)
AutoModel.register(E4SRecConfig, E4SRecModel, exist_ok=True)
AutoModel.register(SASRecConfig, SASRecModel, exist_ok=True)

__version__ = "0.1.0"

__all__ = ["E4SRecConfig", "E4SRecModel", "SASRecConfig", "SASRecModel"]
