"""Prepare a model for training: packed reading, the losses and the dropout of the base, on any model of this package.

Models that came in through remote code are prepared too: what travels defines the model, and this makes it fast.
"""

from typing import Any

from transformers import PreTrainedModel

from .last_layer import let_the_last_layer_skip
from .layers import drop_from_layers
from .losses import training_loss
from .packed_reading import PackedReader


def prepare_for_training(model: PreTrainedModel) -> Any:
    """Let a model train fast and in little memory. `RankingTrainer` calls it; a loop of your own should too.

    Without it an E4SRec model reads each target in a row of its own and holds the scores of all targets at once: the
    numbers are the same.

    Args:
        model: An E4SRec or SASRec model, from this package or from the code of a repo. It is changed in place.

    Returns:
        The model.

    Raises:
        ValueError: If there is dropout in the base (``base_dropout``), but no layers are found.
    """
    made: Any = model
    made.training_loss = training_loss
    # the Trainer expects exactly these to be absent when it resumes
    made._keys_to_ignore_on_save = set(made.state_dict()) - set(made.saved_keys())
    if model.config.model_type == "e4srec":
        if not isinstance(made.reader, PackedReader):
            made.reader = PackedReader()
        let_the_last_layer_skip(made.base)
        drop_from_layers(made.base, model.config.base_dropout)
        made.has_base_dropout = True
    return model
