"""A catalogue that changes without retraining: items are added, retired and restored."""

from .head_fit import HeadFit, fit_rows
from .items import GrownCatalogue, add_items, remove_items, restore_items

__all__ = ["GrownCatalogue", "HeadFit", "add_items", "fit_rows", "remove_items", "restore_items"]
