"""Users with histories of every length, and what one call of the model for each of them gives."""

import random

import pytest

from e4srec_hf.serving import Recommender


@pytest.fixture
def users(raw_ids):
    """User id to history: from none to more than `max_history` items, ids that are not known among them."""
    generator = random.Random(0)
    pool = [*raw_ids, "unknown 1", "unknown 2"]
    users = {f"user {n}": generator.choices(pool, k=generator.randrange(14)) for n in range(40)}
    return users | {"nobody": [], "lost": ["unknown 1", "unknown 3"], "007": ["item 7"]}


@pytest.fixture
def titles(raw_ids):
    return {item: f"Title, of {item}\nä" for item in raw_ids[::2]}


@pytest.fixture
def recommender(make_model, item_tokenizer, titles):
    model = make_model(max_history=8)
    model.config.retired_items = [5, 9]
    return Recommender(model, item_tokenizer, titles)


def one_at_a_time(recommender, users, titles, *, keep=None, top_k=5, exclude_seen=True):
    """A row for each user from a call of `model.recommend` for that user alone, over the items that ``keep`` allows."""
    model, tokenizer = recommender.model, recommender.tokenizer
    rows = []
    for user, items in users.items():
        history = tokenizer([items], is_split_into_words=True, return_tensors="pt")["input_ids"].long()
        chosen = [n for n in range(2, len(tokenizer)) if keep is None or keep(user, tokenizer.convert_ids_to_tokens(n))]
        asked = {"top_k": top_k, "exclude_seen": exclude_seen, "candidates": chosen}
        best = model.recommend(history.reshape(1, -1), **asked)
        pairs = [pair for pair in zip(best.item_ids[0].tolist(), best.scores[0].tolist(), strict=True) if pair[0]]
        names = tokenizer.convert_ids_to_tokens([token for token, _ in pairs])
        rows.append(
            {
                "user_id": user,
                "item_ids": names,
                "titles": [titles.get(name) for name in names],
                "scores": pytest.approx([score for _, score in pairs], abs=1e-5),
                "fallback": not any(item in tokenizer.get_vocab() for item in items),
                "unknown_items": sum(item not in tokenizer.get_vocab() for item in items),
            }
        )
    return rows
