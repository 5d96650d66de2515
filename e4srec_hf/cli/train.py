"""The command ``e4srec train``: examples/train.py, which is installed with the package."""

import typer


def train(context: typer.Context) -> None:
    """Train SASRec and E4SRec on item sequences, and rank the test targets."""
    from ..examples.train import main

    main(context.args, "e4srec train")
