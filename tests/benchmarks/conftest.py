"""A log and a recipe that train in seconds."""

import pytest


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """Forty users with 3 to 22 of 30 items."""
    path = tmp_path_factory.mktemp("log") / "log.txt"
    rows = [" ".join([f"u{n}", *(f"i{(7 * n + 3 * k) % 30}" for k in range(3 + n % 20))]) for n in range(40)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    """Settings that train in seconds."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(
        "sasrec_hidden_size: 16\nsasrec_epochs: 3\nmade_base_hidden_size: 32\ntuning: full\nhead: tied\n"
        'instruction: "Items: "\nresponse: ""\nper_device_train_batch_size: 16\nwarmup_steps: 2\nnum_train_epochs: 2\n'
    )
    return path
