"""The error of this package."""


class PreparationError(ValueError):
    """The raw data or the options are invalid. Nothing was written."""
