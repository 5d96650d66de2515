"""Sampled negatives, for the protocol that ranks a target among a few items instead of the whole catalogue."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset

from ..paths import check_exists, looks_like_path
from .sequences import read_negatives


def draw_negatives(sequences: Dataset, items: Sequence[str], *, count: int = 99, seed: int = 0) -> dict[str, list[str]]:
    """Draw ``count`` different items per user, uniformly from the items that are not in the user's sequence.

    A user's draw depends on the seed, the user's id and sequence, and the catalogue, but not on other users.

    Args:
        sequences: Whole sequences including targets: rows with ``user_id`` and ``item_ids``.
        items: The catalogue, in the order of the item tokenizer.
        count: Negatives per user.
        seed: Seed of the draw.

    Returns:
        User id to negatives.

    Raises:
        ValueError: If a user has fewer unseen items than ``count``.
    """
    names = np.asarray(items, dtype=object)
    index = {item: position for position, item in enumerate(items)}
    lacking, fewest = "", len(names)  # the first user with too few unseen items, and the fewest of all
    negatives = {}
    for user, history in zip(sequences["user_id"], sequences["item_ids"], strict=True):
        unseen = np.ones(len(names), dtype=bool)
        unseen[[index[item] for item in history if item in index]] = False
        pool = np.flatnonzero(unseen)
        fewest = min(fewest, len(pool))
        if len(pool) < count:
            lacking = lacking or f"User {user!r} has only {len(pool)} unseen items; {count} negatives cannot be drawn."
        if lacking:
            continue
        generator = np.random.default_rng([seed, zlib.crc32(user.encode())])
        negatives[user] = names[generator.choice(pool, size=count, replace=False)].tolist()
    if lacking:
        remedy = f"ask for at most {fewest} (--negatives {fewest})" if fewest else "rank among the whole catalogue"
        raise ValueError(f"{lacking} So that each user has as many, {remedy}.")
    return negatives


def with_candidates(sequences: Dataset, negatives: Mapping[str, Sequence[str]]) -> Dataset:
    """Add each user's negatives as the column ``candidates``.

    Raises:
        ValueError: If a user has no negatives; the message names the first ones.
    """
    if missing := [user for user in sequences["user_id"] if user not in negatives]:
        raise ValueError(f"{len(missing)} user(s) have no negatives: {', '.join(map(repr, missing[:5]))}")
    return sequences.add_column("candidates", [list(negatives[user]) for user in sequences["user_id"]])


def with_sampled_negatives(
    split: Dataset, source: str, *, sequences: Dataset, items: Sequence[str], seed: int = 0
) -> Dataset:
    """Add the column ``candidates``, read from a file or drawn at random.

    Args:
        split: The rows to evaluate.
        source: A file in the reference format, or the number of negatives to draw.
        sequences: Whole sequences, as for [`draw_negatives`].
        items: The catalogue, in the order of the item tokenizer.
        seed: Seed of the draw.

    Raises:
        ValueError: If the source is a number that cannot be drawn, or there is no such file.
    """
    if source.isdecimal() and int(source):
        return with_candidates(split, draw_negatives(sequences, items, count=int(source), seed=seed))
    if looks_like_path(source):
        check_exists(source)
    if not Path(source).is_file():
        raise ValueError(
            f"--negatives {source}: expected how many to draw, a whole number of at least 1, or a file with a user and "
            "the negatives on each line."
        )
    return with_candidates(split, read_negatives(source))
