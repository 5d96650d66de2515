"""The demo data set is reproducible, and popularity does not explain it."""

from collections import Counter
from itertools import pairwise

import pytest

from e4srec_hf.data import make_demo_world


def test_the_same_seed_gives_the_same_world():
    world, again, other = make_demo_world(), make_demo_world(), make_demo_world(seed=1)
    assert world.sequences.to_dict() == again.sequences.to_dict()
    assert world.titles == again.titles
    assert world.sequences.to_dict() != other.sequences.to_dict()


def test_it_has_enough_users_items_and_titles():
    world = make_demo_world()
    assert len(world.sequences) >= 2000
    assert len(world.titles) == len(set(world.titles.values())) == 500
    assert {item for items in world.sequences["item_ids"] for item in items} <= set(world.titles)
    assert all(len(items) == len(set(items)) >= 3 for items in world.sequences["item_ids"])


def test_the_next_book_depends_on_the_last_one():
    """Guessing the most frequent follower of the last item is right far more often than the most popular item."""
    world = make_demo_world()
    histories = world.sequences["item_ids"][:]
    followers = {}
    popularity = Counter()
    for items in histories:
        popularity.update(items[:-1])
        for item, following in pairwise(items[:-1]):
            followers.setdefault(item, Counter())[following] += 1
    top = popularity.most_common(1)[0][0]
    by_popularity = sum(items[-1] == top for items in histories)
    by_sequence = sum(
        items[-2] in followers and followers[items[-2]].most_common(1)[0][0] == items[-1] for items in histories
    )
    assert by_sequence > 0.4 * len(histories)
    assert by_popularity < 0.05 * len(histories)


@pytest.mark.parametrize("n_items", [15, 10, 510])
def test_sizes_it_cannot_make_are_refused(n_items):
    with pytest.raises(ValueError, match=f"n_items must be a multiple of 10 between 20 and 500, not {n_items}"):
        make_demo_world(n_items=n_items)


def test_a_world_of_few_books_has_an_end():
    histories = make_demo_world(n_users=30, n_items=20).sequences["item_ids"]
    assert max(len(items) for items in histories) == 20
