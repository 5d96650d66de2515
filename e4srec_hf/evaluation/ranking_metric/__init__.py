"""The ranking metrics as an `evaluate` metric: ``evaluate.load(PATH)``."""

from pathlib import Path

#: The folder to give to `evaluate.load`.
PATH = str(Path(__file__).parent)
