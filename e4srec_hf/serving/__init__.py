"""Serving: recommendations of a saved model for raw item ids, live sessions, and LoRA merged into the base."""

from .merging import merge_adapter, unmerge_adapter
from .recommender import RankedItems, Recommended, Recommender
from .recommending import recommend_items
from .sessions import Session, Sessions
from .tables import recommend_table

__all__ = [
    "RankedItems",
    "Recommended",
    "Recommender",
    "Session",
    "Sessions",
    "merge_adapter",
    "recommend_items",
    "recommend_table",
    "unmerge_adapter",
]
