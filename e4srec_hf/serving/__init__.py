"""Serving: recommendations of a saved model for raw item ids."""

from .recommending import Recommended, recommend_items

__all__ = ["Recommended", "recommend_items"]
