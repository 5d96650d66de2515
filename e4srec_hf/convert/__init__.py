"""To and from other formats: the reference implementation, PEFT, and files of tensors."""

from .peft import export_peft
from .reference import import_item_embeddings, import_reference
from .tensor_files import load_named_tensors, load_tensors

__all__ = ["export_peft", "import_item_embeddings", "import_reference", "load_named_tensors", "load_tensors"]
