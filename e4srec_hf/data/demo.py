"""A small readable world to try things on: readers who follow series of books.

What a reader takes next hangs on what was read last, so a model that reads the sequence does far better than one that
knows what is popular.
"""

from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from .sequences import SEQUENCE_FEATURES

VOLUMES = 10
_PLACES = [
    "Harbour",
    "Orchard",
    "Lighthouse",
    "Mountain",
    "Desert",
    "River",
    "Winter",
    "Clockwork",
    "Midnight",
    "Glass",
]
_THINGS = ["Detectives", "Gardeners", "Kingdom", "Letters", "Voyages"]
_SUBTITLES = [
    "A Door in the Wall",
    "The Second Map",
    "What the Tide Left",
    "Seven Keys",
    "The Long Supper",
    "A Borrowed Name",
    "Snow on the Sill",
    "The Quiet Engine",
    "Nobody's Island",
    "The Last Lamp",
]

#: What a reader does next: the next volume, the series that this one's readers turn to, or anything that is popular.
FOLLOW, BRANCH = 0.65, 0.15


@dataclass(frozen=True)
class DemoWorld:
    """A made-up data set.

    Attributes:
        sequences: ``user_id`` and ``item_ids``, one row a reader.
        titles: Item id to title, for every item of the catalogue.
    """

    sequences: Dataset
    titles: dict[str, str]


def make_demo_world(n_users: int = 2400, n_items: int = 500, seed: int = 0) -> DemoWorld:
    """Generate the world; the same arguments give the same world.

    Every reader starts with some volume of a popular series and then, at each step, goes on to the next volume (65%),
    turns to the series that follows on from this one (15%), or picks something popular (20%). Nobody reads a book
    twice.

    Args:
        n_users: Number of readers.
        n_items: Number of books: ten volumes a series.
        seed: Seed of everything that is drawn.

    Raises:
        ValueError: If ``n_items`` is not a multiple of ten between 20 and 500.
    """
    n_series, rest = divmod(n_items, VOLUMES)
    if rest or not 2 <= n_series <= len(_PLACES) * len(_THINGS):
        raise ValueError(f"n_items must be a multiple of {VOLUMES} between 20 and 500, not {n_items}")
    generator = np.random.default_rng(seed)
    series_names = [f"The {place} {thing}" for thing in _THINGS for place in _PLACES]
    titles = [
        f"{series_names[series]}, Book {volume + 1}: {_SUBTITLES[(volume + 3 * series) % VOLUMES]}"
        for series in range(n_series)
        for volume in range(VOLUMES)
    ]
    ids = [f"B{number:04d}" for number in generator.permutation(n_items)]  # an id says nothing of its series
    appeal = 1.0 / np.arange(1, n_series + 1) ** 0.7
    popularity = np.repeat(appeal / appeal.sum(), VOLUMES) / VOLUMES  # (items,)
    turn_to = generator.permutation(n_series)  # the series that readers of another turn to

    histories = []
    for _ in range(n_users):
        length = min(4 + min(int(generator.geometric(0.15)), 36), n_items)  # nobody reads a book twice
        read = [int(generator.choice(n_items, p=popularity))]
        while len(read) < length:
            series, volume = divmod(read[-1], VOLUMES)
            choice = generator.random()
            if choice < FOLLOW and volume + 1 < VOLUMES:
                book = read[-1] + 1
            elif choice < FOLLOW + BRANCH:
                book = int(turn_to[series]) * VOLUMES
            else:
                book = int(generator.choice(n_items, p=popularity))
            if book in read:
                book = int(generator.choice(n_items, p=popularity))
            if book not in read:
                read.append(book)
        histories.append([ids[book] for book in read])
    sequences = Dataset.from_dict(
        {"user_id": [f"reader-{number:04d}" for number in range(n_users)], "item_ids": histories},
        features=SEQUENCE_FEATURES,
    )
    return DemoWorld(sequences, dict(zip(ids, titles, strict=True)))
