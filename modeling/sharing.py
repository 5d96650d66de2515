"""Several adapters on one base in memory: each has modules of its own around the same weights.

LoRA layers stand in the modules of a base. So each adapter has a tree of modules to itself, and only the tensors in it
are shared: no adapter sees another one, none has to be switched on, and an adapter that is deleted leaves nothing.
"""

import copy
from typing import Any, cast

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

#: Attributes of the layers and weights of bitsandbytes: scales, and the object that holds them after the first pass.
QUANTIZATION_STATE = ("quant_state", "state", "CB", "SCB")


def share_base(model: PreTrainedModel) -> PreTrainedModel:
    """A base in modules of its own that shares the weights of a language model, or of the base of an E4SRec model.

    Raises:
        ValueError: If the weights are not those of a base alone: an adapter is merged, or the base was trained whole.
    """
    donor: Any = model if model.config.model_type == "e4srec" else None
    if donor is not None and model.config.tuning == "full":
        raise ValueError('The base of an E4SRec model with tuning="full" was trained with it: no adapter fits on it.')
    if donor is not None and donor._unmerged_weights:
        raise ValueError("An adapter is merged into this base: call its unmerge_adapter() first.")
    body = cast(PreTrainedModel, model.base_model if donor is None else donor.base)
    twin = copy.deepcopy(body, {id(value): value for value in _shared(body)})
    for parent in list(twin.modules()) if donor is not None else ():
        for name, child in parent.named_children():
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
    for module in twin.modules():  # what training put in for the other adapter
        vars(module).pop("base_dropout", None)
    vars(twin).pop("peft_config", None)
    return twin


def _shared(base: nn.Module) -> list[Any]:
    """What copies of a base have in common: its tensors, and what quantized layers keep beside their weights."""
    tensors = [*base.parameters(), *base.buffers()]
    holders = [*base.modules(), *tensors]
    kept = [getattr(holder, name) for holder in holders for name in QUANTIZATION_STATE if hasattr(holder, name)]
    return tensors + [state for state in kept if state is not None]
