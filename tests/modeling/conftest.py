"""A model on disk, for the tests of what is saved."""

import pytest


@pytest.fixture
def saved(make_model, base_dir, tmp_path):
    """A model on a base on disk, and the folder it was saved to."""

    def save(**config):
        model = make_model(base_dir, **config)
        model.save_pretrained(tmp_path / "adapter")
        return model, tmp_path / "adapter"

    return save
