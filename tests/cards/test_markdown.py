"""Nothing in the data breaks a card."""

import ast
import html

import pytest

from e4srec_hf.cards.markdown import duration, name_value_table, plain, python_literal, table

HOSTILE = [
    "a|b",
    "a\nb\r\nc\u2028d",
    "```",
    "*x* <b> &amp; [l](http://x) \\| `c`",
    "",
    "---",
    "{{ card_data }}",
    'q"\'"q',
]


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
def test_a_cell_keeps_a_row_a_row_and_shows_the_text_as_it_is(text):
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    assert not set("|<>[]*`") & set(shown)
    assert html.unescape(shown) == "\\n".join(text.splitlines())
    lines = table(("name", "value"), [(text, text), ("x", 1)]).splitlines()
    assert [line.count("|") for line in lines] == [3, 3, 3, 3]


def test_a_line_break_at_the_end_is_shown_too():
    assert plain("\n\n### Response:\n") == "\\n\\n### Response:\\n"


def test_an_empty_value_is_no_empty_cell():
    assert name_value_table(("setting", "value"), {"response": "", "head": "tied"}).splitlines()[2:] == [
        "| response | (empty) |",
        "| head | tied |",
    ]


@pytest.mark.parametrize("text", [*HOSTILE, "it's", "\x00", "\u202e", "😀", "\\"], ids=repr)
def test_a_literal_is_one_line_of_python_that_means_the_text(text):
    literal = python_literal([[text, "b"]])
    assert len(literal.splitlines()) == 1
    assert ast.literal_eval(literal) == [[text, "b"]]
    assert python_literal("org/name") == '"org/name"'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (8.26, "8.3 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (725.2, "12 min 5 s"),
        (12_000, "3 h 20 min"),
    ],
)
def test_durations_read_like_durations(seconds, words):
    assert duration(seconds) == words
