"""``e4srec recommend`` and ``evaluate``, given something else than a model of this package."""

import shutil

import pytest

from tests.cli.running import fail, run


@pytest.fixture
def words(tmp_path):
    """Takes a folder to the words of both commands."""
    (tmp_path / "log.txt").write_text("a 1 2 3\nb 2 3 1\n")
    return lambda folder: (["recommend", folder, "1"], ["evaluate", folder, "--dataset", tmp_path / "log.txt"])


def test_a_language_model_is_named_as_a_base(words, base_dir):
    for command in words(base_dir):
        assert "holds a model of the type llama; expected e4srec or sasrec" in fail(*command)


def test_folders_without_a_model_are_named(words, base_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "config.json").write_text("[]")
    (tmp_path / "run" / "base").mkdir(parents=True)
    shutil.copy(f"{base_dir}/config.json", tmp_path / "run" / "base")
    for name, message in (
        ("empty", "it has no config.json"),
        ("peft", "it has no config.json"),
        ("list", "expected a JSON object"),
        ("log.txt", "is a file; expected the folder of a saved model"),
        ("run", "it has no config.json"),  # a base alone is no model
    ):
        for command in words(tmp_path / name):
            assert message in fail(*command), name


def test_a_base_is_read_whole_or_quantized_one_way(folder, hub_here):
    assert "exclude each other" in fail("recommend", folder, "item 3", "--load-in-4bit", "--load-in-8bit")
    whole, quantized = (run("recommend", folder, "item 3", *flag) for flag in ([], ["--load-in-8bit"]))
    assert whole != quantized
