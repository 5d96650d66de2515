"""E4SRec as a first-class citizen of the Hugging Face Hub: train, rank, share, load.

Importing the package registers its models, so that `AutoModel` uses the installed code and no remote code.
"""

from transformers import AutoConfig, AutoModel

try:
    from .modeling import E4SRecConfig, E4SRecModel, SASRecConfig, SASRecModel
except ModuleNotFoundError as error:
    if error.name != "e4srec_hf.modeling":
        raise
    raise ImportError(
        "This is the source folder of e4srec_hf, in which `modeling` lies one level up. Install the package "
        "(`pip install .`) and start Python in another folder."
    ) from error

AutoConfig.register(E4SRecConfig.model_type, E4SRecConfig, exist_ok=True)
AutoConfig.register(SASRecConfig.model_type, SASRecConfig, exist_ok=True)
AutoModel.register(E4SRecConfig, E4SRecModel, exist_ok=True)
AutoModel.register(SASRecConfig, SASRecModel, exist_ok=True)

__version__ = "0.1.0"

__all__ = ["E4SRecConfig", "E4SRecModel", "SASRecConfig", "SASRecModel"]
