"""The packed layout against rows made one target at a time."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from e4srec_hf.modeling.histories import windows_of
from e4srec_hf.training.packing import pack_rows, visible_slots


@st.composite
def targets(draw):
    """Rows with targets behind some numbers of items, and how many items count."""
    rows = draw(st.lists(st.lists(st.integers(0, 12), max_size=7), min_size=1, max_size=4))
    pairs = [(row, count) for row, counts in enumerate(rows) for count in sorted(counts)]
    max_history = draw(st.integers(1, 13))
    return (*(torch.tensor([pair[i] for pair in pairs], dtype=torch.long) for i in (0, 1)), max_history)


def history_of(row, preceding, max_history):
    """The plain definition: the last ``max_history`` of the items before the target."""
    return [100 * row + item for item in range(preceding)][-max_history:]


IDS = torch.tensor([[100 * row + item for item in range(12)] for row in range(4)])


@given(targets(), st.booleans())
def test_a_target_finds_its_history_at_the_front_of_its_window(drawn, shared):
    rows, preceding, max_history = drawn
    windows = windows_of(rows, preceding, max_history, shared=shared)
    ids = windows.item_ids(IDS)
    assert windows.of_target.tolist() == sorted(windows.of_target.tolist())
    for target, (row, count) in enumerate(zip(rows.tolist(), preceding.tolist(), strict=True)):
        window, n = int(windows.of_target[target]), int(windows.items_before[target])
        assert ids[window, :n].tolist() == history_of(row, count, max_history)
    for window, n_items in enumerate(windows.n_items.tolist()):
        assert not ids[window, n_items:].any()
    starts = {(r, max(p - max_history, 0)) for r, p in zip(rows.tolist(), preceding.tolist(), strict=True)}
    assert len(ids) == (len(rows) if not shared else len(starts))


@given(targets(), st.integers(0, 3), st.integers(0, 3), st.none() | st.integers(1, 8), st.booleans())
def test_every_token_sees_what_it_would_see_in_a_row_of_its_own(drawn, n_response, n_before, window, shared):
    rows, preceding, max_history = drawn
    windows = windows_of(rows, preceding, max_history, shared=shared)
    packed = pack_rows(windows, n_response)
    if not len(rows):
        assert packed.token.shape == (0, 0)
        return
    visible = visible_slots(packed, n_before, window)
    ids = windows.item_ids(IDS)
    n_items = ids.shape[1]

    def content(row, slot):  # an item, or ("response", place)
        token = int(packed.token[row, slot])
        return int(ids[row, token]) if token < n_items else ("response", token - n_items)

    def seen(row, slot):
        """What a slot sees, with positions, sorted by position."""
        keys = visible[row, slot].nonzero().flatten().tolist()
        before = [(k - n_before, "before") for k in keys if k < n_before]
        behind = [(int(packed.position[row, k - n_before]), content(row, k - n_before)) for k in keys if k >= n_before]
        return sorted(before + behind, key=lambda pair: pair[0])

    def alone(history, place):
        """The same in a row of its own: what stands up to ``place``, as far back as the window goes."""
        sequence = [*["before"] * n_before, *history, *(("response", r) for r in range(n_response))]
        logical = list(enumerate(sequence, start=-n_before))[: n_before + place + 1]
        return logical if window is None else logical[-window:]

    for target, (row_of_batch, count) in enumerate(zip(rows.tolist(), preceding.tolist(), strict=True)):
        history = history_of(row_of_batch, count, max_history)
        row, read = int(packed.row[target]), int(packed.read[target])
        assert read == -1 if not n_response and not history else content(row, read) is not None
        for r in range(n_response):  # the tokens of its copy; the last one is read
            slot = read - n_response + 1 + r
            assert content(row, slot) == ("response", r)
            assert seen(row, slot) == alone(history, len(history) + r)
        for slot in range(len(history)):
            assert content(row, slot) == history[slot]
            assert seen(row, slot) == alone(history, slot)
        if not n_response:
            assert read == len(history) - 1
    padding = torch.arange(packed.token.shape[1]) >= packed.length[:, None]
    assert visible.any(dim=2)[padding].all()  # no empty row for softmax to make NaN of


@given(targets(), st.integers(0, 3))
def test_a_plain_layout_is_causal_and_counts_its_positions(drawn, n_response):
    rows, preceding, max_history = drawn
    for shared in (True, False):
        packed = pack_rows(windows_of(rows, preceding, max_history, shared=shared), n_response)
        assert packed.is_plain or shared
        if packed.is_plain:
            filled = torch.arange(packed.token.shape[1]) < packed.length[:, None]
            positions = torch.arange(packed.token.shape[1]).expand_as(packed.position)
            assert torch.equal(packed.position[filled], positions[filled])
            causal = torch.ones(packed.token.shape[1], packed.token.shape[1]).tril().bool()
            expected = (causal & filled[:, None, :])[filled]
            assert torch.equal(visible_slots(packed)[filled], expected)


def test_a_row_holds_its_items_once_and_a_copy_a_target():
    rows, preceding = torch.zeros(3, dtype=torch.long), torch.tensor([0, 2, 3])  # the picture in the module
    packed = pack_rows(windows_of(rows, preceding, 50, shared=True), 2)
    assert packed.token.tolist() == [[0, 1, 2, 3, 4, 3, 4, 3, 4]]
    assert packed.position.tolist() == [[0, 1, 2, 0, 1, 2, 3, 3, 4]]
    assert packed.read.tolist() == [4, 6, 8]
