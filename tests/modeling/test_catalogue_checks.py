"""What a config may say of a catalogue that has changed, and which layout its files then have."""

import json

import pytest

from e4srec_hf import E4SRecConfig, SASRecConfig

CONFIGS = [E4SRecConfig, SASRecConfig]


@pytest.mark.parametrize("config_class", CONFIGS)
def test_the_fields_come_back_sorted(config_class, tmp_path):
    config_class(vocab_size=20, grown_from=[10, 15], retired_items=[12, 3, 12]).save_pretrained(tmp_path)
    loaded = config_class.from_pretrained(tmp_path)
    assert (loaded.grown_from, loaded.retired_items) == ([10, 15], [3, 12])


@pytest.mark.parametrize("config_class", CONFIGS)
def test_a_file_without_the_fields_is_a_catalogue_that_never_changed(config_class, tmp_path):
    config_class(vocab_size=20).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    fields = json.loads(file.read_text())
    del fields["grown_from"], fields["retired_items"]
    file.write_text(json.dumps(fields))
    loaded = config_class.from_pretrained(tmp_path)
    assert (loaded.grown_from, loaded.retired_items) == ([], [])


@pytest.mark.parametrize("config_class", CONFIGS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grown_from": [20]}, r"growing numbers of rows below vocab_size 20, not \[20\]"),
        ({"grown_from": [12, 12]}, r"not \[12, 12\]"),
        ({"grown_from": [1]}, r"not \[1\]"),
        (
            {"grown_from": [10.0]},
            r"each of grown_from and retired_items must be a whole number of at least 0, not 10\.0",
        ),
        ({"retired_items": [1]}, "retired_items must be item ids from 2 to 19, not 1"),
        ({"retired_items": [5, 20]}, "retired_items must be item ids from 2 to 19, not 20"),
        ({"retired_items": [True]}, "each of grown_from and retired_items must be a whole number"),
        ({"retired_items": "abc"}, "each of grown_from and retired_items must be a whole number"),
    ],
)
def test_fields_that_mean_nothing_are_refused(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_class(vocab_size=20, **fields)


@pytest.mark.parametrize(
    ("fields", "version"), [({}, 1), ({"grown_from": [10]}, 1), ({"grown_from": [10], "retired_items": [3]}, 2)]
)
def test_the_files_have_the_oldest_layout_that_says_it_all(fields, version, tmp_path):
    config = E4SRecConfig(vocab_size=20, **fields)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["format_version"] == config.format_version == version
    assert E4SRecConfig.from_pretrained(tmp_path).format_version == version
