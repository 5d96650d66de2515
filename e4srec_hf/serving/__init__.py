"""Serving: recommendations of a saved model for raw item ids, live sessions, vectors and explanations, merged LoRA."""

from .explaining import Explanation, explain
from .merging import merge_adapter, unmerge_adapter
from .recommender import RankedItems, Recommended, Recommender
from .recommending import recommend_items
from .sessions import Session, Sessions
from .tables import recommend_table
from .vectors import ItemVectors, item_vectors, similar_items, user_vectors

__all__ = [
    "Explanation",
    "ItemVectors",
    "RankedItems",
    "Recommended",
    "Recommender",
    "Session",
    "Sessions",
    "explain",
    "item_vectors",
    "merge_adapter",
    "recommend_items",
    "recommend_table",
    "similar_items",
    "unmerge_adapter",
    "user_vectors",
]
