"""A fresh repo to tamper with, and a marker that shows whether something hostile ran."""

import shutil
from pathlib import Path

import pytest

from e4srec_hf import E4SRecModel
from e4srec_hf.training.saving import save_trained
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.conftest import INSTRUCTION, RESPONSE


@pytest.fixture(scope="session")
def fresh_folder(tmp_path_factory, item_table, item_tokenizer):
    """An adapter with its base inside its folder, its items and its card."""
    folder = tmp_path_factory.mktemp("fresh") / "adapter"
    base = make_tiny_base(folder / "base", hidden_size=32, texts=(INSTRUCTION, RESPONSE))
    model = E4SRecModel.from_base(base, item_table, instruction=INSTRUCTION, response=RESPONSE, lora={"r": 4})
    save_trained(model, item_tokenizer, folder)
    return folder


@pytest.fixture
def fresh(fresh_folder, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(fresh_folder, tmp_path / "adapter"))


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that hostile code in a repo makes, if it is run."""
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    return tmp_path / "marker"
