"""A base on a Hub of this machine, and a model on it."""

from pathlib import Path

import pytest

from e4srec_hf.training.saving import save_trained


@pytest.fixture
def base_on_hub(hub_here, base_dir):
    """A base in a repo of its own."""
    hub_here.commit("org/base", {file.name: file.read_bytes() for file in Path(base_dir).iterdir()})
    return "org/base"


@pytest.fixture
def saved(make_model, base_on_hub, item_tokenizer, tmp_path):
    """A model on a base of the Hub, and the folder it was saved to, with a card."""

    def save(name="adapter", **config):
        model = make_model(base_on_hub, **config)
        save_trained(model, item_tokenizer, tmp_path / name)
        return model, tmp_path / name

    return save
