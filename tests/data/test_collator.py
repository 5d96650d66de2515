"""Which items become targets, against the definition spelled out in a loop."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e4srec_hf.data import SequenceCollator, build_item_tokenizer

TOKENIZER = build_item_tokenizer(list("abcdef"))
VOCAB = TOKENIZER.get_vocab()


def expected_targets(items, max_history, first_item):
    """(history in view, target) pairs of one user: the last `max_history` items, each with what is kept before it."""
    kept = items[-max_history - 1 :]
    pairs = []
    for place, item in enumerate(kept):
        before = [other for other in kept[:place] if other in "abcdef"]
        if item not in "abcdef" or (not before and (len(items) > max_history or not first_item)):
            continue
        pairs.append((before, item))
    return pairs


@given(st.lists(st.lists(st.sampled_from("abcdefX"), min_size=1, max_size=9), min_size=1, max_size=4), st.booleans())
def test_training_targets(rows, first_item):
    collate = SequenceCollator(TOKENIZER, "all", max_history=4, first_item=first_item)
    batch = collate([{"item_ids": items} for items in rows])
    found = []
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        for column in (labels != -100).nonzero().flatten().tolist():
            assert labels[column] == ids[column]
            before = ids[:column][mask[:column].bool()]
            assert len(before) <= 4
            found.append(([TOKENIZER.convert_ids_to_tokens(int(i)) for i in before], int(labels[column])))
    expected = [(before, VOCAB[item]) for items in rows for before, item in expected_targets(items, 4, first_item)]
    assert found == expected


def test_evaluation_leaves_rows_whole_with_one_target_each():
    collate = SequenceCollator(TOKENIZER, "last", max_history=2)
    batch = collate([{"item_ids": list("abcde")}, {"item_ids": list("fX")}, {"item_ids": list("ab")}])
    assert batch["input_ids"].tolist() == [[2, 3, 4, 5, 6], [0, 0, 0, 7, 1], [0, 0, 0, 2, 3]]
    assert batch["labels"].tolist() == [[-100] * 4 + [6], [-100] * 5, [-100] * 4 + [3]]


def test_candidates_become_padded_token_ids():
    rows = [{"item_ids": ["a", "b"], "candidates": ["c", "d"]}, {"item_ids": ["a"], "candidates": ["e"]}]
    batch = SequenceCollator(TOKENIZER, "last")(rows)
    assert batch["candidates"].tolist() == [[4, 5], [0, 6]]
    assert batch["candidates"].dtype == torch.long


def test_other_kinds_of_targets_are_refused():
    with pytest.raises(ValueError, match='targets must be "all" or "last", not \'first\''):
        SequenceCollator(TOKENIZER, "first")


def test_the_number_of_targets_is_that_of_the_paper():
    """Last 50 items a user, arXiv 2312.02443 table 2 counts min(n, 50) training targets a user."""
    lengths = [1, 3, 49, 50, 51, 200]
    collate = SequenceCollator(TOKENIZER, "all", max_history=50)
    batch = collate([{"item_ids": ["a"] * n} for n in lengths])
    assert (batch["labels"] != -100).sum(1).tolist() == [min(n, 50) for n in lengths]


def drawn(max_targets, epoch, rows, seed=0):
    collate = SequenceCollator(TOKENIZER, "all", max_history=9, max_targets=max_targets, seed=seed)
    collate.set_epoch(epoch)
    return collate(rows)["labels"]


@given(st.lists(st.lists(st.sampled_from("abcdefX"), min_size=1, max_size=9), min_size=1, max_size=4))
def test_a_cap_leaves_so_many_targets_and_changes_nothing_else(rows):
    rows = [{"item_ids": items} for items in rows]
    everything = SequenceCollator(TOKENIZER, "all", max_history=9)(rows)["labels"]
    capped = drawn(3, 0, rows)
    assert (capped != -100).sum(1).tolist() == (everything != -100).sum(1).clamp(max=3).tolist()
    assert torch.equal(capped[capped != -100], everything[capped != -100])


def test_targets_are_drawn_anew_each_epoch_and_evenly_whatever_the_batch():
    row = {"item_ids": list("abcdefabc")}
    draws = [drawn(2, epoch, [row])[0] != -100 for epoch in range(400)]
    shares = torch.stack(draws).float().mean(0)
    assert (shares - 2 / 9).abs().max() < 0.08  # four standard deviations
    in_company = drawn(2, 7, [{"item_ids": list("ab")}, row, {"item_ids": list("fedcba")}])
    assert torch.equal(in_company[1] != -100, draws[7])
    assert not torch.equal(drawn(2, 7, [row], seed=1)[0] != -100, draws[7])


def shuffled(share, epoch, rows, seed=0, **settings):
    collate = SequenceCollator(TOKENIZER, "all", max_history=9, shuffle_histories=share, seed=seed, **settings)
    collate.set_epoch(epoch)
    return collate(rows)


def test_shuffled_rows_keep_their_items_and_every_order_is_as_likely():
    row = {"item_ids": list("abc")}
    epochs = 1200
    batches = [shuffled(1.0, epoch, [row]) for epoch in range(epochs)]
    assert all(torch.equal(batch["labels"], batch["input_ids"]) for batch in batches)
    orders = Counter(tuple(batch["input_ids"][0].tolist()) for batch in batches)
    assert {tuple(sorted(order)) for order in orders} == {tuple(TOKENIZER.convert_tokens_to_ids(list("abc")))}
    assert len(orders) == 6
    assert max(abs(count / epochs - 1 / 6) for count in orders.values()) < 0.043  # four standard deviations


def test_so_large_a_share_is_shuffled_and_the_last_items_of_a_long_row_alone():
    row = {"item_ids": list("fffff") + list("abcdefabcd")}  # the last ten are read
    in_order = SequenceCollator(TOKENIZER, "all", max_history=9)([row])
    batches = [shuffled(0.3, epoch, [row]) for epoch in range(500)]
    kept = [torch.equal(batch["input_ids"], in_order["input_ids"]) for batch in batches]
    assert abs(sum(kept) / len(kept) - 0.7) < 0.082  # four standard deviations
    for batch in batches:
        assert batch["input_ids"].sort().values.equal(in_order["input_ids"].sort().values)
        assert batch["labels"][0, 0] == -100  # it was cut: what came before the first is not known
        assert torch.equal(batch["labels"][0, 1:], batch["input_ids"][0, 1:])


def test_a_shuffle_depends_on_epoch_seed_and_row_and_not_on_the_batch():
    row = {"item_ids": list("abcdefabc")}
    alone = shuffled(1.0, 7, [row])["input_ids"][0]
    assert torch.equal(shuffled(1.0, 7, [{"item_ids": list("ab")}, row])["input_ids"][1], alone)
    assert not torch.equal(shuffled(1.0, 7, [row], seed=1)["input_ids"][0], alone)
    assert not torch.equal(shuffled(1.0, 8, [row])["input_ids"][0], alone)
    assert torch.equal(
        shuffled(0.0, 7, [row])["input_ids"], SequenceCollator(TOKENIZER, "all", max_history=9)([row])["input_ids"]
    )


def test_a_cap_is_drawn_from_a_shuffled_row_too():
    row = {"item_ids": list("abcdef")}
    batch, uncapped = shuffled(1.0, 0, [row], max_targets=2), shuffled(1.0, 0, [row])
    assert torch.equal(batch["input_ids"], uncapped["input_ids"])
    assert not torch.equal(batch["input_ids"], SequenceCollator(TOKENIZER)([row])["input_ids"])
    targets = batch["labels"] != -100
    assert int(targets.sum()) == 2
    assert torch.equal(batch["labels"][targets], batch["input_ids"][targets])


def test_the_last_item_is_the_target_whatever_is_shuffled():
    row = {"item_ids": list("abcdef")}
    plain = SequenceCollator(TOKENIZER, "last")([row])
    batch = SequenceCollator(TOKENIZER, "last", shuffle_histories=1.0)([row])
    assert all(torch.equal(batch[name], plain[name]) for name in plain)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), True])
def test_an_invalid_share_is_refused(share):
    with pytest.raises(ValueError, match="shuffle_histories must be between 0 and 1"):
        SequenceCollator(TOKENIZER, shuffle_histories=share)


def test_a_cap_below_one_is_refused():
    with pytest.raises(ValueError, match="max_targets must be at least 1, not 0"):
        SequenceCollator(TOKENIZER, max_targets=0)
