"""Model cards and data set cards, with the facts of a training and its learning curves."""

from .callback import CardCallback
from .dataset_card import refresh_dataset_card
from .facts import add_facts, load_facts
from .model_card import refresh_model_card

__all__ = ["CardCallback", "add_facts", "load_facts", "refresh_dataset_card", "refresh_model_card"]
