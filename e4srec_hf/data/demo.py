"""A small generated data set for demos and tests: readers who follow series of books.

The next book depends on the last one, so a model that reads the sequence does far better than popularity.
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

#: Probabilities of the next book: the next volume, or the first of the following series; otherwise a popular book.
FOLLOW, BRANCH = 0.65, 0.15


@dataclass(frozen=True)
class DemoWorld:
    """A generated data set.

    Attributes:
        sequences: ``user_id`` and ``item_ids``, one row per reader.
        titles: Item id to title, for every item of the catalogue.
    """

    sequences: Dataset
    titles: dict[str, str]


def make_demo_world(n_users: int = 2400, n_items: int = 500, seed: int = 0) -> DemoWorld:
    """Generate the data set; the same arguments give the same data.

    Every reader starts with a volume of a popular series. Each next book is the next volume (65%), the first volume of
    the series that follows this one (15%) or a popular book (20%). No reader reads a book twice.

    Args:
        n_users: Number of readers.
        n_items: Number of books: ten volumes per series.
        seed: Random seed.

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
    ids = [f"B{number:04d}" for number in generator.permutation(n_items)]  # ids do not reveal the series
    appeal = 1.0 / np.arange(1, n_series + 1) ** 0.7
    popularity = np.repeat(appeal / appeal.sum(), VOLUMES) / VOLUMES  # (items,)
    turn_to = generator.permutation(n_series)  # the series that follows each series

    histories = []
    for _ in range(n_users):
        length = min(4 + min(int(generator.geometric(0.15)), 36), n_items)  # no book is read twice
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
