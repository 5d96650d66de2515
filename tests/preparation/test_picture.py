"""The picture: what its bars hold, and that nothing is squeezed or missing."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e4srec_hf.preparation.picture import BARS, draw, make_bars
from e4srec_hf.preparation.writing import Counts


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 9), st.integers(-500, 500), st.integers(10_000, 90_000)), min_size=1))
def test_bars_hold_equally_many_numbers_and_lose_none(numbers):
    bars = make_bars(Counter(numbers))
    inside = [n for n in numbers if bars.starts[0] <= n < bars.starts[-1] + bars.width]
    assert bars.starts[0] == min(inside)
    assert len(bars.starts) <= BARS
    assert set(np.diff(bars.starts)) <= {bars.width}
    assert bars.heights.tolist() == [sum(start <= n < start + bars.width for n in numbers) for start in bars.starts]
    below, above = [n for n in numbers if n < bars.starts[0]], [n for n in numbers if n >= bars.starts[-1] + bars.width]
    assert bars.below == ((len(below), min(below)) if below else None)
    assert bars.above == ((len(above), max(above)) if above else None)
    assert len(below) + len(above) <= len(numbers) / 10 + 1


def test_outlying_numbers_stand_apart():
    bars = make_bars(Counter({**dict.fromkeys(range(17_000, 17_100), 10), 0: 3, 30_000: 1}))
    assert (bars.width, bars.starts[0], bars.starts[-1]) == (2, 17_000, 17_098)
    assert (bars.below, bars.above) == ((3, 0), (1, 30_000))


@pytest.fixture
def panels(tmp_path, monkeypatch):
    """Draw counts; give the panels of the figure."""
    from matplotlib.figure import Figure

    figures = []
    plain = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **more: (figures.append(self), plain(self, *args, **more))
    )

    def drawn(lengths, items, days):
        of_items = np.array(items)
        counts = Counts(of_items, of_items > 0, lengths=Counter(lengths), days=Counter(days))
        assert draw(counts, "name", tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
        return figures[-1].axes

    return drawn


def test_ticks_are_on_bars_that_start_at_the_data(panels):
    lengths, _, days = panels([5, 5, 6, 8], [3, 0, 9], [17_000, 17_001, 17_001, 17_003])
    assert [bar.get_height() for bar in lengths.patches] == [2, 1, 0, 1]
    for axes, names in ((lengths, ["5", "6", "7", "8"]), (days, [f"2016-07-{day}" for day in (18, 19, 20, 21)])):
        assert axes.get_xlim() == (0, 4)
        middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
        assert list(axes.get_xticks()) == middles
        assert [tick.get_text() for tick in axes.get_xticklabels()] == names


def test_wide_bars_have_ticks_where_they_start(panels):
    lengths, _, _ = panels(range(20, 220), [1], [0])
    starts = {bar.get_x(): 20 + 4 * place for place, bar in enumerate(lengths.patches)}
    ticks = dict(zip(lengths.get_xticks(), (int(tick.get_text()) for tick in lengths.get_xticklabels()), strict=True))
    assert len(starts) == 50
    assert "4 lengths per bar" in lengths.get_title("left")
    assert all(starts[place] == number for place, number in ticks.items())


def test_outlying_years_are_marked_and_do_not_squeeze_the_others(panels):
    _, _, days = panels([5], [5], [*range(17_000, 17_100)] * 9 + [0, 0, 0])
    assert {text.get_text() for text in days.texts} == {"3\nfrom 1970-01-01"}
    left, right = days.get_xlim()
    assert 50 / (right - left) > 0.8  # the share of the width that the 50 bars of 2016 have


@pytest.mark.parametrize("items", [[7], [1], [7, 0, 0], [5, 5]])
def test_one_item_is_drawn(items, panels):
    _, popularity, _ = panels([3], items, [0])
    line = popularity.lines[0]
    assert line.get_ydata().tolist() == sorted([n for n in items if n], reverse=True)
    assert line.get_marker() == "o"
    labels = [tick.get_text() for tick in popularity.get_yticklabels()]
    assert f"{items[0]}" in labels
    assert len(labels) == len(set(labels))


def test_an_axis_of_popularity_starts_at_the_data(panels):
    _, popularity, _ = panels([3], [200 + n for n in range(400)], [0])
    assert popularity.get_xlim() == (1, 400)
    low, high = popularity.get_ylim()
    assert 150 < low < 200
    assert 599 < high < 700


def test_without_times_there_are_two_panels(panels):
    assert len(panels([5, 6], [5, 6], [])) == 2
