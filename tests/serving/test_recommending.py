"""Recommendations in Python."""

import pytest

from e4srec_hf.serving import recommend_items
from e4srec_hf.serving.recommending import Recommended, as_lines


@pytest.mark.parametrize("history", ["B0221", None, {"B0221"}, [None], [3], [["B0221"]], iter(["B0221"]), b"ab"])
def test_a_history_that_is_no_list_of_strings_is_refused_before_anything_is_loaded(history):
    with pytest.raises(TypeError, match="history must be a list of raw item ids"):
        recommend_items("./no/such/model", history)


@pytest.mark.parametrize("history", [["B0221"], ("B0221",), []])
def test_any_sequence_of_strings_is_a_history(history):
    with pytest.raises(OSError, match="no/such/model"):
        recommend_items("./no/such/model", history)


def test_what_is_shown_steers_no_terminal_and_does_not_flood_it():
    titles = ["\x1b[2J\x9b1m", "a\nb\rc", "\u202eb\ud800", "x" * 10**6, 7, "Emma"]
    lines = as_lines([Recommended(f"\x1b{place}", 1.0, title) for place, title in enumerate(titles)]).split("\n")
    assert len(lines) == len(titles)
    assert all(line.isprintable() and len(line) < 1100 for line in lines)
    assert lines[0].endswith("\\x1b0  \\x1b[2J\\x9b1m")
    assert lines[2].endswith("\\u202eb\\ud800")
    assert lines[-1].endswith("Emma")
