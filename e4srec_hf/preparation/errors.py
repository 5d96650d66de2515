"""What can go wrong with raw data, in words that say what to do."""


class PreparationError(ValueError):
    """Raw data or options that no data set can be made of. Nothing was written."""
