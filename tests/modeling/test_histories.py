"""Packing and windows against plain loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e4srec_hf.modeling.histories import check_item_ids, known_items, pack_right_padded, target_positions


@st.composite
def batches(draw):
    rows, width = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    ids = draw(st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=rows, max_size=rows))
    mask = draw(st.lists(st.lists(st.integers(0, 1), min_size=width, max_size=width), min_size=rows, max_size=rows))
    return torch.tensor(ids), torch.tensor(mask)


@given(batches())
def test_packing_keeps_the_known_items_in_order(batch):
    ids, mask = batch
    known = known_items(ids, mask)
    packed, lengths = pack_right_padded(ids, known)
    for row in range(len(ids)):
        kept = [i for i, m in zip(ids[row].tolist(), mask[row].tolist(), strict=True) if m and i >= 2]
        assert packed[row, : lengths[row]].tolist() == kept
        assert int(lengths[row]) == len(kept)
    assert packed.shape[1] == int(lengths.max())


@given(batches(), st.data())
def test_targets_are_the_labelled_items_in_row_major_order(batch, data):
    ids, mask = batch
    known = known_items(ids, mask)
    hidden = torch.tensor([[data.draw(st.booleans()) for _ in row] for row in ids])
    labels = ids.masked_fill(hidden, -100)
    rows, columns = target_positions(known, labels)
    expected = [(r, c) for r in range(len(ids)) for c in range(ids.shape[1]) if not hidden[r, c] and ids[r, c] >= 2]
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected


def test_ids_must_be_a_matrix():
    with pytest.raises(ValueError, match=r"input_ids must have the shape \(batch, seq\), not \(3,\)"):
        check_item_ids(torch.tensor([1, 2, 3]), 10, "input_ids")
