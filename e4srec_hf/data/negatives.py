"""Sampled negatives for the protocol that ranks a target among a few items instead of the catalogue."""

from collections.abc import Mapping, Sequence

import numpy as np
from datasets import Dataset


def draw_negatives(sequences: Dataset, items: Sequence[str], *, count: int = 99, seed: int = 0) -> dict[str, list[str]]:
    """Draw, for each user, ``count`` different items evenly from those that are not in the user's sequence.

    Args:
        sequences: Whole sequences, targets included: rows with ``user_id`` and ``item_ids``.
        items: The catalogue.
        count: Negatives a user.
        seed: The draw depends on nothing but this, the users' order and the catalogue's.

    Returns:
        User id to negatives.

    Raises:
        ValueError: If a user has fewer unseen items than ``count``.
    """
    generator = np.random.default_rng(seed)
    names = np.asarray(items, dtype=object)
    index = {item: position for position, item in enumerate(items)}
    negatives = {}
    for user, history in zip(sequences["user_id"], sequences["item_ids"], strict=True):
        unseen = np.ones(len(names), dtype=bool)
        unseen[[index[item] for item in history]] = False
        pool = np.flatnonzero(unseen)
        if len(pool) < count:
            raise ValueError(f"User {user!r} has only {len(pool)} unseen items; {count} negatives cannot be drawn.")
        negatives[user] = names[generator.choice(pool, size=count, replace=False)].tolist()
    return negatives


def with_candidates(sequences: Dataset, negatives: Mapping[str, Sequence[str]]) -> Dataset:
    """Add each user's negatives as the column ``candidates``.

    Raises:
        ValueError: If a user has none; the first ones are named.
    """
    if missing := [user for user in sequences["user_id"] if user not in negatives]:
        raise ValueError(f"{len(missing)} user(s) have no negatives: {', '.join(map(repr, missing[:5]))}")
    return sequences.add_column("candidates", [list(negatives[user]) for user in sequences["user_id"]])
