"""What is shown on a terminal only."""

import sys


def bars_only_on_terminals() -> None:
    """Switch off the progress bars of loading and mapping where they would fill a log file."""
    if sys.stderr.isatty():
        return
    from datasets import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bars()
    disable_progress_bar()
