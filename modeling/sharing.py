"""Several adapters on one base in memory: modules of their own around the same weights.

LoRA layers stand in the modules of a base. So each adapter has a tree of modules to itself, and only the tensors in it
are shared: no adapter sees another one, none has to be switched on, and one that is let go leaves nothing behind.
"""

import copy
import gc
from typing import Any, cast
from weakref import WeakSet

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

#: Attribute of a weight of the base: the models that read it, for as long as they live.
READERS = "_e4srec_readers"
#: Attributes of the layers and weights of bitsandbytes: scales, and the object that holds them from the first pass on.
QUANTIZATION_STATE = ("quant_state", "state", "CB", "SCB")


def share_base(model: PreTrainedModel) -> PreTrainedModel:
    """A base in modules of its own that shares its weights with a loaded model, which stays as it is.

    Args:
        model: A language model, or an E4SRec model, whose base is meant, without its LoRA.

    Raises:
        ValueError: If the weights are not those of the base alone, for an adapter is merged into them, or it was
            trained whole.
    """
    donor = model.base if model.config.model_type == "e4srec" else None
    if donor is not None and model.config.tuning == "full":
        raise ValueError('An E4SRec model with tuning="full" has a base of its own making: no adapter fits on it.')
    body = cast(PreTrainedModel, model.base_model if donor is None else donor)
    if any(reader._unmerged_weights for reader in readers(body)):
        raise ValueError("An adapter is merged into this base: call its unmerge_adapter() first.")
    twin = copy.deepcopy(body, {id(value): value for value in _shared(body)})
    for parent in list(twin.modules()) if donor is not None else ():
        for name, child in parent.named_children():
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
    vars(twin).pop("peft_config", None)
    return twin


def readers(base: PreTrainedModel) -> "WeakSet[Any]":
    """The adapters that read the weights of a base, each through modules of its own."""
    weight = base.get_input_embeddings().weight  # type: ignore[union-attr]
    if not hasattr(weight, READERS):
        setattr(weight, READERS, WeakSet())
    return cast("WeakSet[Any]", getattr(weight, READERS))


def is_read_by_others(base: PreTrainedModel, than: Any = None) -> bool:
    """Whether adapters that are still in use read the weights of a base, other ``than`` one."""
    if set(readers(base)) - {than}:
        gc.collect()  # one that was let go may wait for this
    return bool(set(readers(base)) - {than})


def _shared(base: nn.Module) -> list[Any]:
    """What copies of a base have in common: its tensors, and what quantized layers keep beside their weights."""
    tensors = [*base.parameters(), *base.buffers()]
    holders = [*base.modules(), *tensors]
    kept = [getattr(holder, name) for holder in holders for name in QUANTIZATION_STATE if hasattr(holder, name)]
    return tensors + [state for state in kept if state is not None]
