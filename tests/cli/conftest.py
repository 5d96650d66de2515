"""A saved model for the commands."""

from pathlib import Path

import pytest

from e4srec_hf.training.saving import save_trained
from tests.convert.the_reference import files, reference, sequences

__all__ = ["files", "reference", "sequences"]


@pytest.fixture
def folder(make_model, hub_here, base_dir, item_tokenizer, tmp_path):
    """A saved adapter whose base is on the Hub."""
    hub_here.commit("org/base", {file.name: file.read_bytes() for file in Path(base_dir).iterdir()})
    save_trained(make_model("org/base"), item_tokenizer, tmp_path / "adapter")
    return tmp_path / "adapter"
