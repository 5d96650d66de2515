"""What a user reads of a mistake: one line on stderr. The traceback is for those who ask for it."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

#: Values of ``--debug`` in `transformers.TrainingArguments`; without one of them the flag asks for tracebacks.
VALUES_OF_DEBUG = ("underflow_overflow", "tpu_metrics_debug")


def run_command(program: str, command: Callable[[list[str]], Any], argv: Sequence[str] | None = None) -> None:
    """Call a command; a mistake of the user becomes one line on stderr.

    Args:
        program: What the line begins with.
        command: Takes the words of the command line; an integer that it returns is the exit status.
        argv: These words; by default those of the process.

    Raises:
        SystemExit: With status 1 after a mistake, 2 after a mistake on the command line, 130 after an interruption.
    """
    words, debug = without_debug(sys.argv[1:] if argv is None else argv)
    try:
        status = command(words)
    except BrokenPipeError:  # as in `e4srec … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        if debug:
            raise
        _fail(program, "interrupted", 130)
    except Exception as error:
        if debug or not is_mistake(error):
            raise
        _fail(program, one_line(error), getattr(error, "exit_status", 1))
    if status:
        sys.exit(status)


def without_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """The words without ``--debug``, and whether tracebacks were asked for, by it or by ``E4SREC_DEBUG``."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    asks = [
        word == "--debug" and place < end and not (place + 1 < len(argv) and argv[place + 1] in VALUES_OF_DEBUG)
        for place, word in enumerate(argv)
    ]
    words = [word for word, asked in zip(argv, asks, strict=True) if not asked]
    return words, any(asks) or os.environ.get("E4SREC_DEBUG", "0") not in ("", "0")


def is_mistake(error: Exception) -> bool:
    """Whether an error is about files, values or the network, which a user can mend."""
    hub_errors = sys.modules.get("huggingface_hub.errors")  # where it is not imported, it has raised nothing
    return isinstance(error, (OSError, ValueError)) or (
        hub_errors is not None and isinstance(error, hub_errors.HTTPError)  # that of the HTTP library in use
    )


def one_line(error: Exception) -> str:
    """The message of an error, on one line unless this package wrote several."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        problem = "no such file" if isinstance(error, FileNotFoundError) else error.strerror.lower()
        return f"{problem}: {error.filename}"
    message = str(error).strip() or type(error).__name__
    return message if type(error).__module__.startswith("e4srec_hf.") else " ".join(message.split())


def _fail(program: str, message: str, status: int) -> None:
    sys.stdout.flush()
    rank = os.environ.get("RANK", "0")  # of several processes each may fail, for reasons of its own
    program = program if rank == "0" else f"{program} (process {rank})"
    print(f"{program}: {message}", file=sys.stderr, flush=True)  # noqa: T201 - this line is what the user reads
    sys.exit(status)
