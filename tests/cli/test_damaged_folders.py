"""A model folder with a damaged file, given to any command: one line that names the folder, and no traceback."""

import json

import pytest

from tests.cli.running import run_both

COMMANDS = {
    "recommend": lambda folder, log: ("recommend", folder, "item 3"),
    "evaluate": lambda folder, log: ("evaluate", folder, "--dataset", log),
    "card": lambda folder, log: ("card", folder),
    "push": lambda folder, log: ("push", folder, "org/adapter"),
    "train": lambda folder, log: (
        *("train", "--dataset", log, "--item_embeddings", folder, "--output_dir", folder.parent / "out"),
        *("--use_cpu", "true"),
    ),
}
FIELDS = {
    "vocab_size": "many",
    "retired_items": 5,
    "lora": 5,
    "max_history": "50",
    "model_type": ["e4srec"],
    "item_embedding_dim": [],
    "base_model_name_or_path": 7,
    "item_dropout": "x",
    "dtype": "nosuch",
    "format_version": "2",
}
FILES = {
    "config.json": [b"[]", b"{", b'"x"', b"{}", b"\xff\xfe"],
    "tokenizer.json": [b"[]", b"{"],
    "tokenizer_config.json": [b"[]"],
    "model.safetensors": [b"", b"\x10\0\0", b"half"],
}


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("".join(f"u{n} i{n} i{n + 1} i{n + 2} i{n + 3}\n" for n in range(5)))
    return path


def check(command, folder, log):
    errors = run_both(*COMMANDS[command](folder, log), status=1)[1]
    line = [line for line in errors.splitlines() if line.startswith("e4srec: ")]
    assert len(line) == 1, errors
    assert errors.splitlines()[-1] == line[0]
    assert folder.name in line[0]


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize(("name", "content"), [(name, content) for name in FILES for content in FILES[name]])
def test_a_damaged_file_is_one_line(command, name, content, folder, log, hub_here):
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == b"half" else content)
    check(command, folder, log)
    assert not hub_here.api.repo_exists("org/adapter")


@pytest.mark.parametrize("command", ["recommend", "evaluate", "card"])
@pytest.mark.parametrize("field", list(FIELDS))
def test_a_field_of_a_wrong_type_is_one_line(command, field, folder, log, hub_here):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: FIELDS[field]}))
    check(command, folder, log)


@pytest.mark.parametrize("device", ["foo", "cuda:9", "meta:x"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_loaded(device, log):
    errors = run_both("evaluate", log.parent / "nothing", "--dataset", log, "--device", device, status=2)[1]
    assert errors.startswith(f"e4srec: evaluate: Invalid value for --device: {device}: ")
    assert len(errors.splitlines()) == 1
