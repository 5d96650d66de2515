"""What a repo is tampered with, and how its verdict is searched."""

import json
import pickle
import re
from pathlib import Path

from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_tokenizer(folder, change):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_weights(folder, change, metadata=None):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata=metadata or {"format": "pt"})


def config(**changes):
    return lambda folder: change_json(folder / "config.json", **changes)


def base_config(**changes):
    return lambda folder: change_json(folder / "base" / "config.json", **changes)


def tokenizer_config(**changes):
    return lambda folder: change_json(folder / "tokenizer_config.json", **changes)


def tokenizer(change):
    return lambda folder: change_tokenizer(folder, change)


def weights(change, **kwargs):
    return lambda folder: change_weights(folder, change, **kwargs)


class Hostile:
    """Makes the marker when it is unpickled."""

    def __reduce__(self):
        return eval, ("open(__import__('os').environ['MARKER'], 'w').close()",)


HOSTILE_CODE = "import os\nopen(os.environ['MARKER'], 'w').close()\n"
HOSTILE_PICKLE = pickle.dumps(Hostile())
AUTO_MAP = {"AutoConfig": "configuration_e4srec.E4SRecConfig", "AutoModel": "modeling_e4srec.E4SRecModel"}


def write(name, content):
    def tamper(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return tamper


def find(verification, where, what):
    """The failures in a file with some words."""
    return [
        finding
        for finding in verification.findings
        if finding.kind == "failed" and re.fullmatch(where, finding.where) and re.search(what, finding.what)
    ]


def contents(folder):
    files = [file for file in Path(folder).rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
