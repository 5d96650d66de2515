"""The command ``e4srec``: one file a command, and each imports what it needs only when it runs."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        argv: Its words; by default those of the process.
    """
    from ..errors import run_command
    from .app import call_app

    run_command("e4srec", call_app, argv)
