"""JSON files are whole, and broken ones are named."""

import json

import pytest

from e4srec_hf.files import read_json, write_json


def test_what_is_written_is_read_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / "new" / "facts.json"
    write_json(path, {"title": "Ä|\n", "n": [1, 2.5, None]})
    assert read_json(path) == {"title": "Ä|\n", "n": [1, 2.5, None]}
    assert [file.name for file in tmp_path.rglob("*")] == ["new", "facts.json"]
    assert read_json(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not a JSON file"), ("[1]", "holds a list; expected a JSON object")]
)
def test_a_broken_file_is_named(content, message, tmp_path):
    path = tmp_path / "facts.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_json(path)
    assert str(path) in str(error.value)


def test_a_number_that_json_has_no_word_for_leaves_the_old_file(tmp_path):
    path = tmp_path / "facts.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"new": float("nan")})
    assert json.loads(path.read_text()) == {"old": 1}
