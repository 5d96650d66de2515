"""Recommendations in Python."""

import pytest

from e4srec_hf.serving import recommend_items


@pytest.mark.parametrize("history", ["B0221", None, {"B0221"}, [None], [3], [["B0221"]], iter(["B0221"]), b"ab"])
def test_a_history_that_is_no_list_of_strings_is_refused_before_anything_is_loaded(history):
    with pytest.raises(TypeError, match="history must be a list of raw item ids"):
        recommend_items("./no/such/model", history)


@pytest.mark.parametrize("history", [["B0221"], ("B0221",), []])
def test_any_sequence_of_strings_is_a_history(history):
    with pytest.raises(OSError, match="no/such/model"):
        recommend_items("./no/such/model", history)
