"""What a user reads of a mistake: one line on stderr. The traceback is for those who ask for it."""

import difflib
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

from .terminal import escape_what_cannot_be_encoded

#: Values of ``--debug`` in `transformers.TrainingArguments`; without one of them the flag asks for tracebacks.
VALUES_OF_DEBUG = ("underflow_overflow", "tpu_metrics_debug")


class UsageError(ValueError):
    """The command line, or a setting, is wrong."""

    exit_status = 2


def closest(name: str, names: Iterable[str], *, similarity: float = 0.6) -> str | None:
    """The one of ``names`` that may have been meant, if any."""
    return next(iter(difflib.get_close_matches(name, sorted(names), n=1, cutoff=similarity)), None)


def run_command(program: str, command: Callable[[list[str]], Any], argv: Sequence[str] | None = None) -> None:
    """Call a command; a mistake of the user becomes one line on stderr.

    Args:
        program: What the line begins with.
        command: Takes the words of the command line; an integer that it returns is the exit status.
        argv: These words; by default those of the process.

    Raises:
        SystemExit: With status 1 after a mistake, 2 after a mistake on the command line, 130 after an interruption.
    """
    escape_what_cannot_be_encoded()
    words, debug = without_debug(sys.argv[1:] if argv is None else argv)
    try:
        _check_text(words)
        status = command(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit:  # of argparse, after its help
        _give_up_closed_streams()
        raise
    except KeyboardInterrupt:
        if debug:
            raise
        _fail(program, "interrupted", 130)
    except Exception as error:
        unread = _is_closed_pipe(sys.stdout) or _is_closed_pipe(sys.stderr)
        _give_up_closed_streams()
        if isinstance(error, BrokenPipeError) and unread:  # as in `e4srec … | head`
            sys.exit(1)
        if debug or not is_mistake(error):
            raise
        hint = "" if _says_all(error) else " (--debug or E4SREC_DEBUG=1 shows the traceback)"
        _fail(program, one_line(error) + hint, getattr(error, "exit_status", 1))
    if status:
        sys.exit(status)


def _check_text(words: Sequence[str]) -> None:
    for word in words:
        if any("\ud800" <= character <= "\udfff" for character in word):  # bytes that Python could not decode
            encoding = sys.getfilesystemencoding()
            raise ValueError(f"{word!a} is no text in {encoding}, the encoding of names here: try PYTHONUTF8=1")


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
    """Whether an error is about files, values, missing packages, memory or the network, which a user can mend."""
    hub_errors = sys.modules.get("huggingface_hub.errors")  # where it is not imported, it has raised nothing
    torch = sys.modules.get("torch")
    return (
        isinstance(error, (OSError, ValueError, ImportError, MemoryError))
        or _is_of_a_damaged_file(error)
        or (hub_errors is not None and isinstance(error, hub_errors.HTTPError))  # that of the HTTP library in use
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
    )


def _is_of_a_damaged_file(error: Exception) -> bool:
    """Whether a reader of files found one damaged; it does not say which."""
    safetensors = sys.modules.get("safetensors")
    return isinstance(error, UnpicklingError) or (
        safetensors is not None and isinstance(error, safetensors.SafetensorError)
    )


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Name a file, folder or option if the block fails on it with an error that does not say what a user can mend.

    Raises:
        ValueError: Instead of any error that is no mistake by [`is_mistake`], or of a damaged file.
    """
    try:
        yield
    except Exception as error:
        if is_mistake(error) and not _is_of_a_damaged_file(error):
            raise
        reason = str(error).strip() if type(error).__name__ in str(error) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{what} cannot be used: is one of its files damaged? ({' '.join(reason.split())})") from error


@contextmanager
def reaching_hub(consequence: str) -> Iterator[None]:
    """Say that the Hub cannot be reached if the block, or the decorated function, fails to connect to it.

    Args:
        consequence: What was not done for that.

    Raises:
        ConnectionError: It names the address of the Hub.
    """
    try:
        yield
    except Exception as error:
        if (reason := unreachable_hub(error)) is None:
            raise
        raise ConnectionError(f"{reason}: {consequence}") from error


def unreachable_hub(error: Exception) -> str | None:
    """What to say of an error in connecting to the Hub; ``None`` for any other, also for an answer that was lost."""
    hub = sys.modules.get("huggingface_hub")
    if hub is None:
        return None
    if isinstance(error, hub.errors.OfflineModeIsEnabled):
        return f"the Hub at {hub.constants.ENDPOINT} is not asked in offline mode (HF_HUB_OFFLINE)"
    if isinstance(error, hub.errors.HTTPError) and type(error).__name__ in ("ConnectError", "ConnectTimeout"):
        return f"the Hub at {hub.constants.ENDPOINT} cannot be reached ({' '.join(str(error).split())})"
    return None


def _says_all(error: BaseException) -> bool:
    """Whether an error names a file, or a statement of this package raised it on purpose, and for a mistake."""
    if isinstance(error, OSError) and error.filename is not None:
        return True
    steps = list(traceback.walk_tb(error.__traceback__))
    if not steps or not str(steps[-1][0].f_globals.get("__name__")).startswith("e4srec_hf."):
        return False
    statement = traceback.extract_tb(error.__traceback__)[-1].line or ""
    cause = error.__cause__
    return statement.startswith("raise ") and (not isinstance(cause, Exception) or is_mistake(cause))


def one_line(error: Exception) -> str:
    """The message of an error, on one line unless this package wrote several."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        problem = "no such file" if isinstance(error, FileNotFoundError) else error.strerror.lower()
        return f"{problem}: {error.filename}"
    message = unreachable_hub(error) or str(error).strip() or type(error).__name__
    if isinstance(error, UnpicklingError) and "weights_only" in message:  # torch says how to run it all the same
        return "a file of tensors does what no tensor needs; it was refused, and nothing of it was run"
    return message if type(error).__module__.startswith("e4srec_hf.") else " ".join(message.split())


def _fail(program: str, message: str, status: int) -> None:
    rank = os.environ.get("RANK", "0")  # of several processes each may fail, for reasons of its own
    program = program if rank == "0" else f"{program} (process {rank})"
    print(f"{program}: {message}", file=sys.stderr)  # noqa: T201 - this line is what the user reads
    _give_up_closed_streams()
    sys.exit(status)


def _give_up_closed_streams() -> None:
    """Flush stdout and stderr; one that takes nothing any more is left, or Python would fail on it again at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
            given_up = _is_closed_pipe(stream)
        except OSError:
            given_up = True
        if given_up:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_closed_pipe(stream: Any) -> bool:
    """Whether a stream is a pipe whose reader has left; after the first error Python itself does not say it again."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (AttributeError, OSError):  # Windows, or no file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))
