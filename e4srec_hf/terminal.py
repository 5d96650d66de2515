"""What is printed, and what is shown on a terminal only."""

import io
import sys


def show(text: str) -> None:
    """Print a text to stdout."""
    print(text)  # noqa: T201 - what a command is for


def escape_what_cannot_be_encoded() -> None:
    """Let stdout and stderr write an escape for a character that their encoding lacks, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def bars_only_on_terminals() -> None:
    """Switch off the progress bars of loading and mapping where they would fill a log file."""
    if sys.stderr.isatty():
        return
    from datasets import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bars()
    disable_progress_bar()
