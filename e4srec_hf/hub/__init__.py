"""The Hugging Face Hub: push, pull and verify models, push data sets."""

from ..files import travelling_code
from .datasets import push_dataset, save_dataset
from .pull import item_titles, pull
from .push import push, push_folder

__all__ = ["item_titles", "pull", "push", "push_dataset", "push_folder", "save_dataset", "travelling_code"]
