"""Serving: recommendations of a saved model for raw item ids, and LoRA merged into the base."""

from .merging import merge_adapter, unmerge_adapter
from .recommending import Recommended, recommend_items

__all__ = ["Recommended", "merge_adapter", "recommend_items", "unmerge_adapter"]
